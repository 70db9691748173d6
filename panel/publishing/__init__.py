"""From saved rows to an enforced table: snapshot, diff, publication, nodes, events."""
