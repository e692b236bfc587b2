"""What a harvest cannot do ends with status 2 and one line, which says what is wrong and what is allowed."""

from pathlib import Path

import pytest

from pipelines.cli import main

EXPERIMENT = """
model: microworld
site: blocks.2.resid_post
text: {source: microworld, max_tokens: 20_000}
harvest: {window: 128}
"""
REFUSED = {
    "another block": (["--site", "blocks.9.resid_post"], "no site 'blocks.9.resid_post' in this llama"),
    "a misspelt site": (["--site", "blocks.2.resid_pst"], "did you mean 'blocks.2.resid_post'?"),
    "no row a token": (["--site", "blocks.0.attn_pattern"], "blocks.0.attn_pattern cannot be harvested"),
    "a long window": (["--harvest.window", "257"], "harvest.window 257 must lie between 2 and the model's 256 tokens"),
    "another bos": (["--harvest.bos", "windw"], "'tokenizer', 'document', 'window' or 'none', got 'windw'"),
    "a wrong path": (
        ["--model_options.family", "{blocks: nope, embed: model.embed_tokens, final: into model.norm}"],
        "family: blocks is 'nope', which this LlamaForCausalLM has not",
    ),
    "half a family": (["--model_options.family", "{blocks: model.layers}"], "'model_options.family.embed' is missing"),
    "no such map": (["--model_options.device_map", "wrong"], "'auto', 'balanced'"),
    "no such option": (["--model_options.bitsandbytes", "{load_in_5bit: true}"], "did you mean 'load_in_8bit'?"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_harvested_is_refused_in_one_line(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, says = REFUSED[what]
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    with pytest.raises(SystemExit) as ended:
        main(["harvest", str(tmp_path / "experiment.yaml"), "--store", str(tmp_path / "store"), *words])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert says in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert said.out == ""
