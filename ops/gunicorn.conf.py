"""Gunicorn for the panel. One process with threads: what sipd reports is pulled once, not once per process."""

import os

worker_class = "gthread"
workers = int(os.environ.get("TENANTRY_WORKERS", "1"))
threads = int(os.environ.get("TENANTRY_THREADS", "8"))
timeout = 60
graceful_timeout = 5
keepalive = 5
limit_request_line = 4094
limit_request_fields = 64
control_socket_disable = True


def post_worker_init(worker):
    """Pull events and bring publications to nodes that were away; of several processes, one does it."""
    from panel.publishing import puller

    puller.start_for(worker.wsgi)
