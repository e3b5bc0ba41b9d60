"""The border to TRL: the only modules of the trainer that know its private names, and convert what crosses."""
