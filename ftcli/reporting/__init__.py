"""What runs have to show: the card of a model, and the table of runs. Reads run directories alone, never torch."""
