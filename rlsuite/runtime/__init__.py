"""Runtimes wire collector, replay and learner together; nothing else knows where things run.

`session` is one run of anything that learns, `run_loop` a run of an agent, `local` and `ray` are the runtimes, `stages` are runs
that follow one another.
"""
