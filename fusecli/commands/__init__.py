"""One file per subcommand: flags and a few lines of wiring. No torch at module level."""
