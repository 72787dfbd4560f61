"""Data, checkpoints and the training loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import gputape as gt
from gputape import modelfile, nn, optim
from gputape.data import batches, digits, shift_images
from gputape.train import Interrupted, Options, Trainer, evaluate_run, train_run

# --- data


def test_digits_are_the_fixed_split():
    data = digits()
    assert data.x_train.shape == (1347, 1, 8, 8) and data.x_test.shape == (450, 1, 8, 8)
    assert data.x_train.dtype == np.float32 and data.y_test.dtype == np.int64
    assert data.x_train.min() == 0 and data.x_train.max() == 1
    assert np.abs(np.bincount(data.y_test) - 45).max() <= 2
    part = digits(validation=True)
    assert len(part.x_train) + len(part.x_test) == 1347
    known = {x.tobytes() for x in data.x_train}
    assert all(x.tobytes() in known for x in part.x_test)


def test_batches_cover_the_data_once():
    x, y = np.arange(10), np.arange(10) * 2
    parts = list(batches(x, y, 4))
    assert [len(a) for a, _ in parts] == [4, 4, 2]
    gt.manual_seed(0)
    shuffled = list(batches(x, y, 4, shuffle=True))
    together = np.concatenate([a for a, _ in shuffled])
    assert sorted(together) == list(x) and list(together) != list(x)
    assert all((b == 2 * a).all() for a, b in shuffled)
    gt.manual_seed(0)
    again = list(batches(x, y, 4, shuffle=True))
    assert all((a == c).all() for (a, _), (c, _) in zip(shuffled, again, strict=True))
    own = [next(batches(x, y, 10, shuffle=True, generator=gt.Generator(5)))[0] for _ in range(2)]
    assert (own[0] == own[1]).all()
    assert [len(a) for a, _ in batches(x, y, 4, drop_last=True)] == [4, 4]


@pytest.mark.parametrize(
    "x, y, size, options, message",
    [
        (np.zeros((0, 3)), np.zeros(0), 2, {}, "empty"),
        (np.zeros((3, 2)), np.zeros(2), 2, {}, "one row of y"),
        (np.zeros(3), np.zeros(3), 0, {}, "at least 1"),
        (np.zeros(3), np.zeros(3), 1.5, {}, "integer"),
        (np.zeros(3), np.zeros(3), 4, {"drop_last": True}, "leaves nothing"),
    ],
)
def test_bad_data_is_refused_before_the_first_batch(x, y, size, options, message):
    with pytest.raises(gt.DataError, match=message):
        batches(x, y, size, **options)


def test_shifts_move_images_by_a_pixel():
    image = np.zeros((3000, 1, 5, 5), np.float32)
    image[:, 0, 2, 2] = 1
    moved = shift_images(image, 1.0, generator=gt.Generator(0))
    share = moved.mean(0)[0, 1:4, 1:4]
    np.testing.assert_allclose(share, 1 / 9, atol=5 * math.sqrt(8 / 81 / 3000))
    assert moved.sum() == 3000
    assert (shift_images(image, 0.0) == image).all()


# --- checkpoints


def test_a_checkpoint_gives_back_arrays_and_description(tmp_path):
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 2), np.float64)}
    modelfile.save(tmp_path / "a.safetensors", arrays, model="m", options={"lr": 0.1, "steps": None})
    found, about = modelfile.load(tmp_path / "a.safetensors")
    assert about == {"model": "m", "options": {"lr": 0.1, "steps": None}}
    assert found.keys() == arrays.keys()
    for name, a in arrays.items():
        assert found[name].dtype == a.dtype and found[name].shape == a.shape and found[name].tobytes() == a.tobytes()
    modelfile.save(tmp_path / "b.safetensors", arrays, options={"steps": None, "lr": 0.1}, model="m")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    from safetensors.numpy import save_file

    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    modelfile.save(good, {"w": np.ones(50)})
    for content, message in [
        (good.read_bytes()[:-8], "damaged"),
        (b"\x00" * 100, "damaged"),
        (b"", "damaged"),
    ]:
        bad.write_bytes(content)
        with pytest.raises(gt.CheckpointError, match=message):
            modelfile.load(bad)
    save_file({"w": np.ones(3)}, bad)
    with pytest.raises(gt.CheckpointError, match="not written by gputape"):
        modelfile.load(bad)
    for text in ["{", "[]", "{}"]:
        save_file({"w": np.ones(3)}, bad, metadata={"gputape": text})
        with pytest.raises(gt.CheckpointError, match="damaged"):
            modelfile.load(bad)
    save_file({"w": np.ones(3)}, bad, metadata={"gputape": json.dumps({"format": 99})})
    with pytest.raises(gt.CheckpointError, match="format 99"):
        modelfile.load(bad)
    with pytest.raises(gt.CheckpointError, match="not a file"):
        modelfile.load(tmp_path / "none.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(gt.CheckpointError, match="cannot write"):
        modelfile.save(tmp_path / "file" / "x.safetensors", {"w": np.ones(3)})


# --- training


def weights(trainer):
    return b"".join(a.tobytes() for a in trainer.model.state_dict().values())


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
def test_the_same_seed_gives_the_same_bits(model):
    def train(seed):
        trainer = Trainer(Options.of(model, seed=seed, steps=6), digits())
        trainer.fit()
        return weights(trainer)

    assert train(0) == train(0) != train(1)


def test_training_learns():
    trainer = Trainer(Options.of("digits-mlp", epochs=8), digits(validation=True))
    trainer.fit()
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"] / 2
    assert trainer.history[-1]["accuracy"] > 2 * trainer.history[0]["accuracy"]
    assert trainer.rate() == pytest.approx(0.0)
    assert [row["epoch"] for row in trainer.history] == list(range(1, 9))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_stopped_anywhere_continues_to_the_same_bits(tmp_path, precision):
    options = Options.of("digits-mlp", seed=3, epochs=2, precision=precision)
    whole = Trainer(options, digits())
    whole.fit()
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        train_run(options, tmp_path, stop=lambda: next(calls) == 11)
    stopped, saved = evaluate_run(tmp_path)
    assert stopped == saved  # the checkpoint is usable as it is
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):  # in the second epoch
        train_run(options, tmp_path, stop=lambda: next(calls) == 40, resume=True)
    train_run(options, tmp_path, resume=True)
    found, about = modelfile.load(tmp_path / "model.safetensors")
    assert about["step"] == whole.total
    assert b"".join(found[name].tobytes() for name in whole.model.state_dict()) == weights(whole)
    assert {str(a.dtype) for a in found.values()} == {"float32"}
    scaler = modelfile.load(tmp_path / "state.safetensors")[1]["scaler"]
    assert scaler == whole.scaler.state_dict() and bool(scaler) == (precision == "fp16")
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[1].split(",")[1] == repr(whole.history[0]["loss"])


def test_a_run_holds_all_results(tmp_path):
    config = train_run(Options.of("digits-mlp", epochs=1), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors",
        "state.safetensors",
        "config.json",
        "metrics.csv",
        "loss.png",
        "confusion.png",
    }
    assert json.loads((tmp_path / "config.json").read_text()) == config
    for figure in ("loss.png", "confusion.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert evaluate_run(tmp_path) == (config["test"], config["test"])
    _, about = modelfile.load(tmp_path / "model.safetensors")
    assert about["model"] == "digits-mlp" and about["seed"] == 0 and about["test"] == config["test"]


def test_bad_options_and_data_are_refused():
    for overrides, message in [
        ({"lr": math.nan}, "lr must be finite"),
        ({"lr": -1.0}, "lr must be finite"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
    ]:
        with pytest.raises(gt.ArgumentError, match=message):
            Options.of("digits-mlp", **overrides)
    with pytest.raises(gt.ArgumentError, match="Did you mean digits-cnn"):
        Options.of("digit-cnn")
    empty = digits()._replace(x_train=np.zeros((0, 1, 8, 8), np.float32), y_train=np.zeros(0, np.int64))
    with pytest.raises(gt.DataError, match="empty"):
        Trainer(Options.of("digits-mlp"), empty)


def test_a_loss_that_is_not_finite_stops_training():
    trainer = Trainer(Options.of("digits-mlp"), digits())
    next(p for p in trainer.model.parameters()).assign(np.full((256, 64), np.inf, np.float32))
    with pytest.raises(gt.DataError, match="smaller learning rate"):
        trainer.fit()


def test_a_model_of_your_own_trains_through_the_public_names():
    gt.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    opt = optim.Adam(model.parameters(), lr=0.05)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([[0], [1], [1], [0]], np.float32)
    for _ in range(150):
        with gt.record() as tape:
            loss = gt.mse_loss(model(x), y)
        opt.step(tape.backward(loss))
    assert float(loss) < 0.01


def test_a_run_with_a_damaged_description_is_refused(tmp_path):
    train_run(Options.of("digits-mlp", steps=1), tmp_path)
    arrays, about = modelfile.load(tmp_path / "model.safetensors")
    options = about["options"]
    damaged = [
        {"options": None},
        {"options": options | {"model": ["digits-mlp"]}},
        {"options": options | {"model": "digits-xl"}},
        {"options": options | {"epochs": "two"}},
        {"options": options | {"batch_size": 0}},
        {"options": options | {"lr": math.nan}},
        {"options": options | {"seed": "q"}},
        {"test": "good"},
        {"test": {}},
    ]
    for change in damaged:
        modelfile.save(tmp_path / "model.safetensors", arrays, **(about | change))
        with pytest.raises(gt.CheckpointError, match=r"run: .*model"):
            evaluate_run(tmp_path)
    modelfile.save(tmp_path / "model.safetensors", arrays, **about)
    arrays, state = modelfile.load(tmp_path / "state.safetensors")
    modelfile.save(tmp_path / "state.safetensors", arrays, **(state | {"history": [{"a": 1}]}))
    with pytest.raises(gt.CheckpointError, match="resume: the saved state is damaged"):
        train_run(Options.of("digits-mlp", steps=1), tmp_path, resume=True)
