"""The commands: options, printing and exit codes; everything else is called from here."""
