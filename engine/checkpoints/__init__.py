"""Files of weights: reading foreign and own ones, teachers, and the network as it is deployed."""
