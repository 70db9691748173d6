"""The bundled SIP edge: a signalling back-to-back user agent (RFC 7092) and registrar."""
