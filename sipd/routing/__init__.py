"""The contract between panel and engines: model, codec, validator, look-up. Standard library only."""
