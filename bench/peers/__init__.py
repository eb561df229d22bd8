"""The same one-moment job in the tools one would otherwise use, each tuned as its documentation says."""
