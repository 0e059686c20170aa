"""Encoders of sequences and texts: padding, lengths, pretrained models."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from rcml_misa.exceptions import OptionError
from rcml_misa.nn import pretrained
from rcml_misa.nn.encoders import (
    EncodedProjection,
    Padded,
    RecurrentEncoder,
    SequenceEncoderKind,
    TableEncoder,
    WordEncoder,
    sequence_encoder,
)
from rcml_misa.nn.pretrained import (
    PretrainedText,
    half_precision,
    split_frozen,
    text_model_path,
)

KINDS = get_args(SequenceEncoderKind)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind) -> None:
    torch.manual_seed(0)
    encoder = sequence_encoder(kind, 3, hidden=4).double().eval()
    values, lengths = torch.randn(3, 6, 3, dtype=torch.double), torch.tensor([6, 2, 4])
    together = encoder(Padded(values, lengths))
    assert together.shape == (3, encoder.outputs)
    for row, length in enumerate(lengths):
        alone = encoder(Padded(values[row : row + 1, :length], lengths[row : row + 1]))
        torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_encoder_is_misas(kind) -> None:
    """Against torch's own layers run one row at a time, without packing."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder(2, hidden=3, kind=kind).double()
    values, lengths = torch.randn(2, 5, 2, dtype=torch.double), torch.tensor([5, 3])
    found = encoder(Padded(values, lengths))
    for row, length in enumerate(lengths):
        first, state_1 = encoder.first(values[row : row + 1, :length])
        _, state_2 = encoder.second(nn.functional.layer_norm(first, (6,)))
        last = [state[0] if kind == "lstm" else state for state in (state_1, state_2)]
        torch.testing.assert_close(found[row], torch.cat(last).flatten())


def test_words_encode_by_number() -> None:
    torch.manual_seed(0)
    encoder = WordEncoder(5, width=4, hidden=3, kind="mean").eval()
    vectors = encoder(Padded(torch.tensor([[2, 3, 0], [3, 2, 4]]), torch.tensor([2, 3])))
    torch.testing.assert_close(vectors[0], encoder.embed.weight[[2, 3]].mean(dim=0))


def test_projection_of_encoders_is_order_of_views() -> None:
    torch.manual_seed(0)
    project = EncodedProjection([TableEncoder(3), sequence_encoder("mean", 2, hidden=4)], hidden=5)
    table, steps = torch.randn(4, 3), Padded(torch.randn(4, 2, 2), torch.tensor([2, 1, 2, 1]))
    assert project([table, steps]).shape == (2, 4, 5)


def test_packaged_model() -> None:
    encoder = PretrainedText("minilm", trained_layers=2).eval()
    assert encoder.outputs == 384
    trained = {name for name, one in encoder.named_parameters() if one.requires_grad}
    assert {name.split(".")[3] for name in trained} == {"4", "5"}
    tokens = torch.tensor([[101, 2204, 3185, 102, 0], [101, 2919, 102, 0, 0]])
    lengths = torch.tensor([4, 3])
    with torch.no_grad():
        both = encoder(Padded(tokens, lengths))
        alone = encoder(Padded(tokens[1:, :3], lengths[1:]))
        states = encoder.model(tokens[1:, :3])[0].mean(dim=1)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone, states, atol=1e-5, rtol=1e-4)
    everything = PretrainedText("minilm", trained_layers=None)
    assert all(one.requires_grad for one in everything.parameters())


def test_bfloat16_is_near_float32() -> None:
    tokens = Padded(torch.tensor([[101, 2204, 3185, 102]]), torch.tensor([4]))
    full, half = (PretrainedText("minilm", trained_layers=0, half=h).eval() for h in (False, True))
    with torch.no_grad():
        a, b = full(tokens), half(tokens)
    assert b.dtype == torch.float32
    assert float(torch.cosine_similarity(a, b)) > 0.999
    assert half_precision("bfloat16", torch.device("cpu"))


def test_a_missing_extra_is_told_with_the_way_out(monkeypatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs transformers.*rcml-misa\[text\].*'words'"):
        text_model_path("minilm")


def test_a_folder_that_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(OptionError, match="can't be loaded"):
        PretrainedText(str(tmp_path), trained_layers=0)


def test_a_local_folder_serves(tmp_path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(tmp_path)
    encoder = PretrainedText(str(tmp_path), trained_layers=1)
    assert encoder.outputs == 8
    assert encoder(Padded(torch.tensor([[1, 2]]), torch.tensor([2]))).shape == (1, 8)


@pytest.mark.parametrize("trained", [1, 4])
def test_frozen_layers_apart_change_nothing(trained) -> None:
    whole = PretrainedText("minilm", trained_layers=trained).eval()
    upper = PretrainedText("minilm", trained_layers=trained).eval()
    lower = split_frozen(upper)
    tokens = Padded(
        torch.tensor([[101, 2204, 3185, 102], [101, 2919, 102, 0]]), torch.tensor([4, 3])
    )
    with torch.no_grad():
        states = lower.states(tokens)
        torch.testing.assert_close(upper(Padded(states, tokens.lengths)), whole(tokens))
    assert not any(one.requires_grad for one in lower.parameters())
    assert sum(one.numel() for one in upper.model.encoder.parameters()) == trained * 1774464
    assert split_frozen(PretrainedText("minilm", trained_layers=6)) is not None
    assert split_frozen(PretrainedText("minilm", trained_layers=None)) is None
