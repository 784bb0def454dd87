"""Board games with a person or another program at the other side: in the terminal, in the browser, over GTP and UCI."""
