"""Files of weights, from here and elsewhere; teachers; and the network as it is deployed."""
