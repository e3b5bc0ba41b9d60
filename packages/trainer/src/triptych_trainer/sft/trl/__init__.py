"""The border to TRL's SFT trainer: the only modules of `sft` that know its private names."""
