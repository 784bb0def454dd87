"""Studies: many runs of agents x games x seeds (`sweep`), and the tables that others believe (`report`)."""
