"""Studies: many runs of agents x games x seeds (`sweep`), and reports on them with intervals and aggregates (`report`)."""
