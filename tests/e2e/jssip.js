// A phone in a page, on JsSIP. `phone.heard` tells what happened to it, in order.
const JsSIP = load("jssip");
const media = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };

window.phone = {
  heard: [],
  session: null,

  start(url, uri, password, extra) {
    const sockets = [new JsSIP.WebSocketInterface(url)];
    this.ua = new JsSIP.UA({ sockets, uri, password, register_expires: 600, ...extra });
    for (const event of ["connected", "disconnected", "registered", "unregistered", "registrationFailed"])
      this.ua.on(event, (what) => this.heard.push(event + (what?.cause ? `: ${what.cause}` : "")));
    this.ua.on("newRTCSession", ({ session, originator }) => this.take(session, originator));
    this.ua.on("newMessage", ({ originator, request }) => {
      if (originator === "remote") this.heard.push(`message: ${request.body}`);
    });
    this.ua.start();
  },

  take(session, originator) {
    this.session = session;
    this.heard.push(`${originator} call: ${session.remote_identity.uri.user}`);
    for (const event of ["progress", "accepted", "confirmed", "ended", "failed"])
      session.on(event, (what) => this.heard.push(event + (what?.cause ? `: ${what.cause}` : "")));
    session.on("hold", ({ originator }) => this.heard.push(`hold by ${originator}`));
    session.on("newInfo", ({ originator, info }) => this.heard.push(`${originator} info: ${info.body}`));
  },

  call(target) {
    this.ua.call(target, media);
  },

  answer() {
    this.session.answer(media);
  },

  write(target, text) {
    return new Promise((done) => this.ua.sendMessage(target, text, {
      eventHandlers: { succeeded: () => done("sent"), failed: ({ cause }) => done(cause) },
    }));
  },

  // Packets of media that came so far.
  async packets() {
    let count = 0;
    for (const report of (await this.session.connection.getStats()).values())
      if (report.type === "inbound-rtp") count += report.packetsReceived;
    return count;
  },
};
