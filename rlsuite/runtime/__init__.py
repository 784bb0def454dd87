"""Runtimes wire collector, replay and learner together; nothing else knows where things run.

`session` has what every training run shares, `run_loop` adds what runs of agents need, `local` and `ray` are the runtimes, and
`stages` makes several runs in a row.
"""
