"""The tests of tallygate."""
