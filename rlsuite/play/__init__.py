"""Plays board games with people and other programs: in the terminal, in the browser, and over GTP and UCI."""
