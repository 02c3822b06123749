"""Spiking neurons: firing times, both learning rules and relative targets, against plain loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attnbench import Backbone
from attnbench.adaptation import spiking as rules
from attnbench.backbones import load
from tests.submissions.adapted import adapt_submission, load_program, noise_images

LAST = 12


@pytest.fixture
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


def network(rule: str, seed: int = 0) -> tuple[torch.nn.Module, Tensor]:
    """Return a network of five features and four hidden neurons, and features `[6, 5]`."""
    torch.manual_seed(seed)
    features = torch.randn(6, 5)
    slope = None if rule == "latency" else 3.0
    spiking = load_program("spiking").SpikingNetwork(features, 4, LAST, 2.0, slope)
    with torch.no_grad():
        # Some weights are negative, so that a potential can also fall.
        spiking.hidden += 0.2 * torch.randn_like(spiking.hidden)
        spiking.output += 0.3 * torch.randn_like(spiking.output)
    return spiking, features


def fire(times: Sequence[float], weights: Sequence[Sequence[float]]) -> list[int]:
    """Return the firing times of neurons whose inputs fire at `times`, step by step."""
    result = []
    for row in weights:
        steps = (
            t
            for t in range(LAST)
            if sum(w for w, t_i in zip(row, times, strict=True) if t_i < t) >= 1
        )
        result.append(next(steps, LAST))
    return result


@pytest.mark.parametrize("rule", ["latency", "surrogate"])
@pytest.mark.parametrize("seed", range(5))
def test_both_rules_have_the_same_firing_times(rule: str, seed: int) -> None:
    spiking, features = network(rule, seed)
    inputs, hidden, outputs = (times.tolist() for times in spiking.firing_times(features))
    for n in range(len(features)):
        assert hidden[n] == fire(inputs[n], spiking.hidden.tolist())
        assert outputs[n] == fire(hidden[n], spiking.output.tolist())


def test_stronger_features_fire_earlier_and_off_cells_mirror_on_cells() -> None:
    torch.manual_seed(0)
    features = torch.tensor([[-1.0], [1.0]])
    spiking = load_program("spiking").SpikingNetwork(features, 3, 10, 2.0, None)
    never = 10
    times = spiking.input_times(torch.tensor([[3.0], [1.0], [-1.0], [0.0]]))
    assert times.tolist() == [[0, never], [5, never], [never, 5], [never, never]]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_the_latency_rule_is_that_of_the_paper(label: int, seed: int) -> None:
    """One image: both layers' errors have the same length, which in the paper is one."""
    spiking, features = network("latency", seed)
    gamma = 3.0
    for row in features[:, None]:
        inputs, hidden, outputs = (times[0].tolist() for times in spiking.firing_times(row))
        first = min(outputs)
        target = [t if t - first >= gamma else min(first + gamma, LAST) for t in outputs]
        target[label] = first if first < LAST else LAST - gamma
        delta_o = np.array(target) - outputs
        delta_o = delta_o / (np.linalg.norm(delta_o) or 1)
        w = spiking.output.detach().numpy()
        before = np.array([[t_j < t_k for t_j in hidden] for t_k in outputs])
        change_of_output = delta_o[:, None] * before
        delta_h = (change_of_output * w).sum(axis=0)
        delta_h = delta_h / (np.linalg.norm(delta_h) or 1)
        change_of_hidden = delta_h[:, None] * [[t_i < t_j for t_i in inputs] for t_j in hidden]

        times = spiking(row)
        targets = rules.relative_targets(times.detach(), label, gamma, LAST)
        np.testing.assert_allclose(targets[0], target)
        spiking.zero_grad()
        (times - targets).norm(dim=1).sum().backward()
        np.testing.assert_allclose(spiking.output.grad, change_of_output, atol=1e-6)
        np.testing.assert_allclose(spiking.hidden.grad, change_of_hidden, atol=1e-6)


@given(st.integers(0, LAST), st.integers(0, LAST), st.sampled_from([0, 1]))
def test_relative_targets_put_the_right_neuron_first(a: int, b: int, label: int) -> None:
    times = torch.tensor([[float(a), float(b)]])
    targets = rules.relative_targets(times, label, 3.0, LAST)[0]
    assert targets[label] < targets[1 - label]
    assert targets.max() <= LAST
    if times[0, 1 - label] - times[0, label] >= 3:
        assert torch.equal(targets, times[0])


def test_neither_rule_weights_a_class_by_its_number_of_images() -> None:
    loss = rules.latency_loss
    pos, neg = torch.tensor([[6.0, 2.0]]), torch.tensor([[3.0, 3.0]])
    once = loss(pos, neg, 3.0, LAST)
    torch.testing.assert_close(loss(pos, neg.repeat(7, 1), 3.0, LAST), once)
    # Target times (2, 5) and (6, 3).
    expected = (np.hypot(4, 3) + np.hypot(3, 0)) / (2 * LAST)
    assert once.item() == pytest.approx(expected)


def test_the_surrogate_is_the_derivative_of_a_sigmoid() -> None:
    potential = torch.randn(3, 9, 2, dtype=torch.float64, requires_grad=True)
    spike = rules.Spike.apply(potential, 3.0)
    assert torch.equal(spike, (potential >= 1).double())
    (gradient,) = torch.autograd.grad(spike.sum(), potential)
    smooth = torch.sigmoid(3 * (potential - 1)).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(smooth, potential)[0])


@pytest.mark.parametrize("rule", ["latency", "surrogate"])
def test_spiking_neurons_learn(rule: str, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 12)
    pos = pos + 1
    detector = adapt_submission("spiking", vgg, pos, neg, rule=rule).detector
    with torch.no_grad():
        hit_rate = (detector(pos) > 0).float().mean()
        correct_rejection_rate = (detector(neg) <= 0).float().mean()
    assert hit_rate + correct_rejection_rate > 1.8


def test_the_hidden_layer_is_trained_by_both_rules() -> None:
    for rule in ("latency", "surrogate"):
        spiking, features = network(rule)
        rules.latency_loss(spiking(features[:3]), spiking(features[3:]), 3.0, LAST).backward()
        assert spiking.hidden.grad.abs().max() > 0 and spiking.output.grad.abs().max() > 0


def test_spikes_are_counted_up_to_the_decision(vgg: Backbone) -> None:
    detector = adapt_submission("spiking", vgg, *noise_images(vgg, 6), epochs=2).delivered
    images = noise_images(vgg, 5, seed=1)[0]
    with torch.no_grad():
        counts, decisions = detector.spikes_and_times(images)
        layers = detector.network.firing_times(detector.encoder(images))
    last = detector.network.last
    for n in range(len(images)):
        decision = min(layers[-1][n].tolist())
        assert decisions[n] == decision
        assert counts[n] == sum(t <= decision and t < last for times in layers for t in times[n])


def test_an_unknown_rule_is_refused(vgg: Backbone) -> None:
    with pytest.raises(ValueError, match="rule must be 'latency' or 'surrogate', not 's4nn'"):
        adapt_submission("spiking", vgg, *noise_images(vgg, 2), rule="s4nn")
