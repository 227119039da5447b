"""What a run is: recipe, options, weights and identity, resolved before anything is loaded."""
