"""The commands of `tallygate` that run services: what each does with its arguments."""
