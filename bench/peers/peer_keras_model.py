# SPDX-License-Identifier: Apache-2.0
"""Upstream's IMDB model in Keras. A call is one step of what `fit` or `evaluate` does: the model's own compiled function on the next batch
of a data set; what they do beside their steps is not counted."""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from attention import Attention
from tensorflow.keras import Model
from tensorflow.keras.layers import Dense, Dropout, Embedding, Input, LSTM

from model import WEIGHTS
from protocol import serve, tensor_file


def make_model(case, directory):
    words = Input((case.timesteps,))
    x = Dropout(0.5)(Embedding(5000, 32)(words))
    x = Attention(units=case.units, score=case.score)(LSTM(case.features, return_sequences=True)(x))
    model = Model(words, Dense(1, activation="sigmoid")(Dropout(0.5)(x)))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    shapes = [weight.shape for weight in model.get_weights()]
    model.set_weights([np.fromfile(tensor_file(directory, name.replace("/", ".")), np.float32).reshape(shape)
                       for name, shape in zip(WEIGHTS, shapes)])
    return model


class Steps:
    def __init__(self, case, directory):
        self.model = make_model(case, directory)
        self.tokens = np.fromfile(os.path.join(directory, "tokens.i32"), np.int32).reshape(-1, case.timesteps)
        label = np.fromfile(tensor_file(directory, "label"), np.float32)
        batches = tf.data.Dataset.from_tensor_slices((self.tokens, label)).batch(case.batch, drop_remainder=True)
        self.batches = iter(batches.repeat().prefetch(tf.data.AUTOTUNE))
        training = case.direction == "epoch"
        self.step = self.model.make_train_function() if training else self.model.make_test_function()

    def __call__(self):
        return self.step(self.batches)

    def results(self):
        return self.model.predict(self.tokens, batch_size=64, verbose=0)


def compile_variants(case, directory):
    return {"the step of fit" if case.direction == "epoch" else "the step of evaluate": Steps(case, directory)}


if __name__ == "__main__":
    threads = int(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    serve("Keras", f"attention 5.0.0, TensorFlow {tf.__version__}", compile_variants, directions=["epoch", "test"], read=lambda case, directory: directory)
