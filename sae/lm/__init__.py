"""Language models: loading, the grammar of places, reading and editing activations, tokens, the unembedding.

    loaded = load_model("../shared/models/stories260K")
    with reading(loaded, ["blocks.2.resid_post"]) as captured:
        loaded(input_ids=ids)

Nothing here imports transformers before a model is loaded.
"""

from sae.lm.context import Context, context_of
from sae.lm.hooks import Captured, Edit, editing, reading
from sae.lm.labelled import (
    Encoded,
    EncodedLabelled,
    Prediction,
    encode,
    encode_labelled,
    encode_twin,
    span_tokens,
    token_at,
)
from sae.lm.load import LoadedModel, Model, fingerprint, load_model, module_of
from sae.lm.site import Site, check_site, parse_site, sites_of
from sae.lm.tokens import Document, Packed, Padded, Text, batches, pack, pad, special_ids, special_mask, tokenize
from sae.lm.unembed import logit_effects, unembedding

__all__ = [
    "Captured",
    "Context",
    "Document",
    "Edit",
    "Encoded",
    "EncodedLabelled",
    "LoadedModel",
    "Model",
    "Packed",
    "Padded",
    "Prediction",
    "Site",
    "Text",
    "batches",
    "check_site",
    "context_of",
    "editing",
    "encode",
    "encode_labelled",
    "encode_twin",
    "fingerprint",
    "load_model",
    "logit_effects",
    "module_of",
    "pack",
    "pad",
    "parse_site",
    "reading",
    "sites_of",
    "span_tokens",
    "special_ids",
    "special_mask",
    "token_at",
    "tokenize",
    "unembedding",
]
