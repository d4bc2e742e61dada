"""What runs in the enclave: an inference. Put your model here."""

import tensorflow as tf

layer = tf.keras.layers.Dense(4, activation="relu")
result = layer(tf.ones((1, 16)))
print("Hello from TensorFlow", tf.__version__, tuple(result.shape))
