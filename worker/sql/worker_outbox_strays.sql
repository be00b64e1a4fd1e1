-- $1 names of the buffers that are served → daemon, buffer: outboxes with events for others
SELECT daemon, buffer FROM worker.outbox_strays($1)
