"""What turns a plan into a finished run: recipes, loop, checkpoints, records. Knows no method by name."""

import os

# Read when protobuf is first imported, by whichever library: engine/records/tensorboard.py says why it is needed.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
