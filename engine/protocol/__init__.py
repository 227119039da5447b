"""What a run is: recipe, options, weights, identity and names, resolved before anything is loaded."""
