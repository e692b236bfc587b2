"""What each preset is: an activation, a loss, a rule for decoder rows, and what reaches its l0.

| preset | activation | loss beside the squared error | decoder rows | source |
|---|---|---|---|---|
| topk | TopK | AuxK; optionally a code of 4k | unit | Gao et al. 2024, arXiv:2406.04093 |
| batchtopk | BatchTopK | AuxK | unit | Bussmann et al. 2024, arXiv:2412.06410 |
| matryoshka | BatchTopK | nested prefixes, AuxK | unit | Bussmann et al. 2025, arXiv:2503.17547 |
| relu | ReLU | L1, AuxK | unit | Bricken et al. 2023, "Towards Monosemanticity" |
| jumprelu | JumpReLU | L0 through the step, or to a target, or tanh | unit; tanh: free | Rajamanoharan et al. 2024, |
| | | | | arXiv:2407.14435; Conerly et al. 2025 |
| gated | Gated | L1 of the gate, its own reconstruction | unit | Rajamanoharan et al. 2024, arXiv:2404.16014 |
| matching_pursuit | matching pursuit | AuxK | unit, also the encoder | Costa et al. 2025, arXiv:2506.03093 |
| transcoder | TopK | AuxK; the target is another site | unit | Dunefsky et al. 2024, arXiv:2406.11944; |
| | | | | with skip: Paulo et al. 2025, arXiv:2501.18823 |
| crosscoder | ReLU | L1 weighted by norms, summed over sites | free | Lindsey et al. 2024, "Sparse crosscoders" |
| pca, random, identity | TopK over ± components, random rows, ± dimensions | not trained | unit | |
"""

import math
from typing import NamedTuple, assert_never

from sae.core.errors import InputError
from sae.dictionary import (
    Activation,
    BatchTopK,
    DictionaryConfig,
    Gated,
    JumpRelu,
    MatchingPursuit,
    Relu,
    TopK,
)
from sae.objective import (
    AuxK,
    GateReconstruction,
    MeanSquare,
    MultiTopK,
    Nested,
    NoAuxiliary,
    NoGate,
    NoPenalty,
    Objective,
    RandomPrefixes,
    StepL0,
    Tanh,
    TargetL0,
    WeightedL1,
)
from sae.objective.auxiliary import Auxiliary
from sae.objective.reconstruction import Reconstruction
from sae.objective.sparsity import Penalty
from sae.training.config import CONTROLLED, TrainConfig
from sae.training.controller import Controller, L0Controller, NoController, Sides
from sae.training.places import Itself, Places

_BROAD_SHARE, _MOST_BROAD, _BROAD_PRODUCT = 1 / 16, 10.0, 360.0
"""With an L1, the share of latents that is active at first at most, how many times l0 that is at most, and the product
with l0 at most: 10 times l0 at l0 6, l0 from 19 on."""
_COUNTED_SHARE, _COUNTED_BEGIN = 1 / 64, 16
"""The same share where latents are counted, of at most so many latents, and at least l0."""
_NARROWED, _COUNTED_NARROWED = 0.8, 0.95
"""Share of the steps in which codes narrow: with an L1, and where latents are counted."""
_LONGEST = 500.0
"""Steps of a horizon at most."""


class Rows(NamedTuple):
    """What holds of decoder rows and of thresholds after every step."""

    unit: bool
    """Decoder rows have norm 1; else the penalty weighs their norms."""
    thresholds_positive: bool
    """Thresholds stay at 0 or above."""
    quick_levels: bool
    """Thresholds and biases move √d times as far as weights do (`sae.training.optimiser`)."""


def dictionary_of(config: TrainConfig, places: Places) -> DictionaryConfig:
    """What is trained.

    Raises:
        InputError: the preset does not go with the places.
    """
    _check(config, places)
    crosses = config.preset == "crosscoder"
    target = None if isinstance(places.target, Itself) else places.target
    return DictionaryConfig(
        d_in=places.d_in,
        d_out=sum(part.d for part in places.written),
        d_sae=config.d_sae,
        activation=activation_of(config, places.d_in),
        subtract_b_dec=target is None,
        skip=config.skip,
        site=None if crosses else places.source[0].site,
        target=None if target is None else target.site,
        parts=places.source if crosses else (),
        model=places.source[0].model,
    )


def _check(config: TrainConfig, places: Places) -> None:
    writes = not isinstance(places.target, Itself)
    if writes != (config.preset == "transcoder"):
        needs = "a site to write beside the one it reads" if not writes else "no other site to write"
        raise InputError(f"preset {config.preset} needs {needs}")
    if len(places.source) > 1 and config.preset != "crosscoder":
        raise InputError(f"preset {config.preset} reads one site, got {len(places.source)}; a crosscoder reads several")


def activation_of(config: TrainConfig, d: int) -> Activation:
    """What turns activations of width d into a code.

    JumpReLU's rectangle is as wide as an active latent is large, √(d / l0). A threshold that no pre-activation is
    near has no gradient, and its latent is dead for good: at l0 8 on the microworld (d 128, 512 latents, 390 steps)
    .79 were dead at the end with a width of 1, .60 with 2, .14 with 4 = √(128 / 8); FVU .044, .024, .015.
    """
    match config.preset:
        case "topk" | "transcoder" | "pca" | "random" | "identity":
            return TopK(k=config.l0)
        case "batchtopk" | "matryoshka":
            return BatchTopK(k=config.l0)
        case "relu" | "crosscoder":
            return Relu()
        case "jumprelu":
            auto = math.sqrt(d / config.l0)
            return JumpRelu(bandwidth=auto if config.bandwidth == "auto" else config.bandwidth)
        case "gated":
            return Gated()
        case "matching_pursuit":
            return MatchingPursuit(k=config.l0)
        case _:
            assert_never(config.preset)


def objective_of(config: TrainConfig, d: int) -> Objective:
    """What is minimised, for activations of width d."""
    gate = GateReconstruction() if config.preset == "gated" else NoGate()
    return Objective(
        reconstruction=_reconstruction(config), penalty=_penalty(config), gate=gate, auxiliary=_auxiliary(config, d)
    )


def _reconstruction(config: TrainConfig) -> Reconstruction:
    if config.multi_topk:
        return MultiTopK(factor=config.multi_topk_factor, weight=config.multi_topk_weight)
    if config.preset != "matryoshka":
        return MeanSquare()
    if config.prefixes == "random":
        return RandomPrefixes(n=config.n_prefixes, power=config.prefix_power, seed=config.seed or 0)
    return Nested(prefixes=tuple(sorted({max(1, round(share * config.d_sae)) for share in config.prefixes})))


def _penalty(config: TrainConfig) -> Penalty:
    match config.preset:
        case "relu" | "gated" | "crosscoder":
            return WeightedL1()
        case "jumprelu":
            match config.penalty:
                case "step":
                    return StepL0()
                case "quadratic":
                    return TargetL0(l0=config.l0)
                case "tanh":
                    return Tanh(c=config.tanh_scale)
                case _:
                    assert_never(config.penalty)
        case _:
            return NoPenalty()


def _auxiliary(config: TrainConfig, d: int) -> Auxiliary:
    """What dead latents learn by.

    jumprelu takes at most 2 · l0 of them for a token, instead of d / 2: a code of many more than l0 latents learns no
    features, and those that come to life by it fire at what is left of the residual. Of 2,048 latents, half of which
    are for nothing, a million rows of "1024-in-128" at l0 6, seed 0, MCC / F1 / FVU / dead with d / 2 = 64 and 2 · l0 =
    12: .957 / .455 / .057 / .232 and .969 / .462 / .045 / .462; 1,024 latents .900 / .848 / .055 / 0 and .893 / .837 /
    .056 / 0. On the microworld, 2,048 latents, l0 16 (codes began with 32): FVU .0021 and .0018, dead .387 and .412;
    with 512 an eighth of the dead is fewer. topk and batchtopk gain little (a 64th of the dead latents instead of an
    eighth: MCC .881 and .883, .931 and .936), and on models, four times as wide, more of theirs stay dead (topk,
    microworld .205 and .316, stories .014 and .070, one seed).
    """
    if config.auxk_coefficient == 0 or config.resample:
        return NoAuxiliary()
    most = max(1, min(2 * config.l0, d // 2) if config.preset == "jumprelu" else d // 2)
    return AuxK(coefficient=config.auxk_coefficient, k=config.k_aux or most, share=config.auxk_share)


def rows_of(config: TrainConfig) -> Rows:
    """What holds of decoder rows and thresholds after every step.

    Conerly et al. 2024 leave the rows of relu free. A million rows of "1024-in-128" (l0 6), three seeds, FVU / MCC /
    dead: free .166 ± .005 / .804 ± .023 / .002, unit .113 ± .003 / .812 ± .018 / 0; FVU on the microworld .0023 and
    .0024, on stories .0367 ± .0007 and .0359 ± .0007 (`scripts/study_defaults.py --groups "decoder rows,auxk share"`).
    """
    free = config.preset == "crosscoder" or (config.preset == "jumprelu" and config.penalty == "tanh")
    return Rows(
        unit=not free, thresholds_positive=config.preset == "jumprelu", quick_levels=config.preset in CONTROLLED
    )


def broad_of(config: TrainConfig) -> float:
    """Times l0 latents that are active at first.

    An L1 takes from a latent what it hears: at 6 of 1,024 latents a token few tokens teach a row that is not yet
    anything's direction, and the penalty is there at every one. A count does not shrink what it counts, but there too
    who hears of few tokens learns late; codes that are not so sparse, as on models, lose by it. A dictionary that a run
    goes on from has found its latents; a squared penalty asks for l0 itself.

    A million rows of "1024-in-128", l0 6, three seeds, AuxK with all dead latents, MCC / FVU / dead with 1, 4 and 10
    times l0: relu .622 / .178 / .027, .736 / .128 / .040 and .792 / .116 / .055; gated .874 / .052 / .040, .895 / .060
    / .038 and .879 / .061 / .025, of which its MCCs do not differ beyond noise (`scripts/study_defaults.py --groups
    broad`). On models, l0 16, seed 0, FVU / dead with 1, 2 and 3 (stories: 4) times l0: relu on the microworld .0022 /
    .004, .0023 / .002 and .0024 / .002, on stories .033, .035 and .036, none dead; gated .0025 / .057, .0025 / .031 and
    .0027 / .016, and .0290, .0299 and .0322. With four times the latents, 1, 2, 4 and 8 (stories: 10): relu .0020 /
    .106, .0017 / .202, .0020 / .336 and .0023 / .296, and .019 / 0, .021 / 0, .022 / 0 and .024 / .003; gated on
    stories .018 / .023 and .020 / .014 at 1 and 2 with half of the rate, and with all of it .019 / .164, at 4 .023 /
    .230, at 10 .059 / .519. So the sparsest codes begin with ten times l0, those of 16 with 1.4 times l0, those of 19
    with l0.
    jumprelu finds more of that known dictionary when it begins broad, the more so the later it narrows, and explains
    less of a model. Seed 0, k_aux 2 · l0, narrowed after 0.95 of the steps unless another share is given; synthetic,
    l0 6, MCC / F1 / FVU: 1,024 latents .858 / .805 / .059 at 1, .901 / .863 / .054 at 2.7, .908 / .876 / .053 at 5,
    .882 / .832 / .056 at 5 and a half of the steps; 2,048 latents .936 / .446 / .053, .963 / .464 / .044, and at 10
    .975 / .471 / .041. On models at l0 6, FVU / dead at 1, 2.7 and 5: microworld .0029 / .008, .0033 / .055 and .0044 /
    .092, with 2,048 latents .0026 / .420, .0031 / .578 and .0038 / .662; stories .0425, .0460 and .0479, none dead,
    with 4,096 latents .0280 / .086 and .0324 / .188. At l0 16 and 4,096 latents of stories .0181 / 0 at 1, .0227 / .032
    at 4, .0253 / .085 at 8. So codes of 16 and more, which is what dictionaries of models have, begin with l0; sparser
    ones begin with a 64th of the latents, 16 at most. `broad: 1` is better where these are of a model.
    Shares of the steps, three seeds, at a 64th of the latents and k_aux d / 2, 0.8 and 0.9, MCC / F1 / dead: 2,048
    latents .954 / .454 / .128 and .961 / .457 / .274; 1,024 latents .886 / .835 / 0 and .892 / .846 / 0; one seed, 2.7
    times l0 and k_aux 2 · l0, 1,024 latents .893 / .837 / 0 at 0.9, .901 / .863 / 0 at 0.95, .898 / .864 / .001 at
    0.98. Three seeds of both defaults (`scripts/bench_quality.py`): 1,024 latents .898 / .860 / 0, 2,048 latents .967 /
    .464 / .425. In 250 steps of 1,024 l0 is reached as well: 6.07 at 0.9, 6.08 at 0.95, MCC .640 and .641.
    """
    counts = config.preset == "jumprelu"
    if config.preset not in CONTROLLED or config.start_from is not None or (counts and config.penalty == "quadratic"):
        return 1.0
    if counts:
        auto = max(1.0, min(_COUNTED_SHARE * config.d_sae, _COUNTED_BEGIN) / config.l0)
    else:
        begin = min(_BROAD_SHARE * config.d_sae, _MOST_BROAD * config.l0, _BROAD_PRODUCT / config.l0)
        auto = max(1.0, begin / config.l0)
    wanted = auto if config.broad == "auto" else config.broad
    return max(1.0, min(wanted, config.d_sae / (2 * config.l0)))


def controller_of(config: TrainConfig, d: int) -> Controller:
    """What reaches l0, for activations of width d and mean square norm d.

    An active latent is then of size √(d / l0). By an L1 it shrinks by λd / 2, as much as it is large at λ =
    2 / √(d · l0), of which the unit is one half. By a count it goes where its square over d is below λ, at λ = 1 / l0,
    of which the unit is a tenth, since those at the edge are smaller. Gains and horizons are those that came nearest in
    runs of 250 and 300 steps on synthetic data (l0 4), the microworld and stories (l0 16): with half of these gains
    L1s ended 12 % from their l0, with more L0 swung.
    """
    if config.preset not in CONTROLLED:
        return NoController()
    squared = config.preset == "jumprelu" and config.penalty == "quadratic"
    counts = config.preset == "jumprelu"
    sides: Sides = "squared" if squared else "either" if counts else "positive"
    gain, share, narrowed = (2.0, 0.2, _COUNTED_NARROWED) if counts else (3.0, 0.15, _NARROWED)
    horizon = max(2.0, min(share * config.n_steps, _LONGEST))
    return L0Controller(
        target=config.l0,
        sides=sides,
        unit=3.0 if squared else 0.1 / config.l0 if counts else 1 / math.sqrt(d * config.l0),
        u=0.0 if counts else math.log(0.1),
        gain=gain if config.controller_gain == "auto" else config.controller_gain,
        horizon=horizon if config.controller_horizon == "auto" else config.controller_horizon,
        memory=config.controller_memory,
        broad=broad_of(config),
        narrowing=(narrowed if config.narrow_fraction == "auto" else config.narrow_fraction) * config.n_steps,
        level=config.level_rate,
        size=math.sqrt(d / config.l0),
    )
