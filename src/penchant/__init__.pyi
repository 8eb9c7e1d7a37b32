from penchant.config import Config as Config
from penchant.errors import PenchantError as PenchantError
from penchant.library.evaluate import Evaluation as Evaluation
from penchant.library.evaluate import evaluate as evaluate
from penchant.library.score import Scores as Scores
from penchant.library.score import score as score
from penchant.library.train import Trained as Trained
from penchant.library.train import train as train
from penchant.objective import losses as losses
from penchant.objective.logps import PairLogps as PairLogps
from penchant.workflow.reporter import Reporter as Reporter

__all__ = [
    "Config",
    "Evaluation",
    "PairLogps",
    "PenchantError",
    "Reporter",
    "Scores",
    "Trained",
    "__version__",
    "evaluate",
    "losses",
    "score",
    "train",
]

__version__: str
