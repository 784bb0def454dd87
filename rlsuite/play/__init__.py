"""Board games against a person or another program: in the terminal, in the browser, over GTP and UCI."""
