"""Runtimes wire collector, replay and learner together; nothing else knows where things run."""
