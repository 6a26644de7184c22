"""What the command line tools share: options, configs, checks, errors."""

from .checkpoints import (
    check_weights,
    read_architecture,
    read_checkpoint,
    read_study,
    resume_latest,
)
from .configs import (
    add_arguments,
    check_amp,
    check_evaluation,
    check_keys,
    enable_amp,
    load_config,
    read_config,
    start_processes,
)
from .data import check_data, check_loading
from .errors import user_errors
from .folders import link_folder
from .model import check_channels, check_losses
from .supernet import open_supernet
from .work_dir import check_work_dir, open_work_dir
