"""`bench`: the loop of ftcli, a plain loop and transformers' Trainer over the same examples, in turns."""
