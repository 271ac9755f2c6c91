"""The cases of the fault suite, by what is done to a run."""
