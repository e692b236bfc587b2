"""Language models: loading, the grammar of places, reading and editing activations, tokens, the unembedding.

    loaded = load_model("../shared/models/stories260K")
    with reading(loaded, ["blocks.2.resid_post"]) as captured:
        loaded(input_ids=ids)

Nothing here imports transformers before a model is loaded.
"""

from sae.lm.compiled import compile_blocks
from sae.lm.context import Context, context_of
from sae.lm.corpus import Corpus, Text
from sae.lm.documents import Document, Documents, Piece
from sae.lm.edits import Edit
from sae.lm.generate import Choice, Generated, Greedy, Sampled, generate
from sae.lm.hooks import Captured, editing, reading
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
from sae.lm.load import LoadedModel, Model, load_model, module_of
from sae.lm.options import ModelOptions
from sae.lm.packing import Packed, Packing, batches, is_encoder, isolates, pack
from sae.lm.padding import Padded, pad
from sae.lm.site import Site, check_site, parse_site, sites_of
from sae.lm.source import fingerprint
from sae.lm.tokens import prefix_of, special_ids, special_mask
from sae.lm.unembed import logit_effects, unembedding

__all__ = [
    "Captured",
    "Choice",
    "Context",
    "Corpus",
    "Document",
    "Documents",
    "Edit",
    "Encoded",
    "EncodedLabelled",
    "Generated",
    "Greedy",
    "LoadedModel",
    "Model",
    "ModelOptions",
    "Packed",
    "Packing",
    "Padded",
    "Piece",
    "Prediction",
    "Sampled",
    "Site",
    "Text",
    "batches",
    "check_site",
    "compile_blocks",
    "context_of",
    "editing",
    "encode",
    "encode_labelled",
    "encode_twin",
    "fingerprint",
    "generate",
    "is_encoder",
    "isolates",
    "load_model",
    "logit_effects",
    "module_of",
    "pack",
    "pad",
    "parse_site",
    "prefix_of",
    "reading",
    "sites_of",
    "span_tokens",
    "special_ids",
    "special_mask",
    "token_at",
    "unembedding",
]
