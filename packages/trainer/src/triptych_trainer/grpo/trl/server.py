"""How TRL's trainer is connected to a vLLM server, and what is known of that connection later."""

import http.client
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.vllm_sampler import SendsAnew
from triptych_trainer.grpo.vllm import TRANSFERS, EngineError, RolloutClient, folder_is_used
from triptych_trainer.options.vllm_refusals import scores_kept
from triptych_trainer.upstream.trl_names import vllm_generation_module

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["begin_server", "connected"]


def connected(args: GRPOConfig, *, transfer: str) -> AbstractContextManager[None]:
    """Open no NCCL group, while TRL's trainer is built and connects to a server, if weights go by a folder.

    Raises:
        UsageError: ``transfer`` is no way to send weights, or no server answers.
    """
    if transfer not in TRANSFERS:
        raise UsageError(f"--vllm_weight_transfer {transfer}: expected one of {', '.join(TRANSFERS)}")
    return _connecting(args, by_folder=_by_folder(args, transfer))


def begin_server(trainer: "MultiImageGRPOTrainer", *, transfer: str, seconds: float) -> None:
    """Note on the connection how weights are sent, how long a generation may take, and whether tokens are scored among
    those that were kept; send the weights at every training.
    """
    if trainer.use_vllm:
        trainer.add_callback(SendsAnew(trainer))
        trainer.vllm_generation.scores_kept = scores_kept(trainer.args)
    if trainer.use_vllm and trainer.args.vllm_mode == "server":
        trainer.vllm_generation.sends_by_folder = _by_folder(trainer.args, transfer)
        trainer.vllm_generation.rollout_seconds = seconds


def _by_folder(args: GRPOConfig, transfer: str) -> bool:
    return bool(args.use_vllm and args.vllm_mode == "server" and folder_is_used(transfer, device=args.device))


def _place(args: GRPOConfig) -> str:
    return args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"


def _check_answers(args: GRPOConfig) -> None:
    """Check that a server that takes connections also answers; TRL, which asks next, would wait for ever.

    Raises:
        UsageError: it does not answer in time.
    """
    client = RolloutClient(_place(args), model="", seconds=args.vllm_server_timeout)
    try:
        client.get("/health")
    except EngineError as error:
        raise UsageError(
            f"the vLLM server at {_place(args)} takes connections and does not answer within --vllm_server_timeout "
            f"{args.vllm_server_timeout:g} seconds; see what it is doing, or start it again with `triptych serve MODEL`"
        ) from error
    except (OSError, RuntimeError, http.client.HTTPException):
        return  # it is not there yet, for which TRL waits, or TRL says what is wrong


@contextmanager
def _connecting(args: GRPOConfig, *, by_folder: bool) -> Iterator[None]:
    if args.use_vllm and args.vllm_mode == "server" and args.process_index == 0:
        _check_answers(args)
    with _without_nccl(by_folder):
        try:
            yield
        except NotImplementedError as error:  # what TRL says of NCCL without a GPU
            if not (args.use_vllm and args.vllm_mode == "server") or by_folder:
                raise
            raise UsageError(
                f"--vllm_weight_transfer nccl: the trainer has no GPU ({args.device}); use --vllm_weight_transfer "
                "folder"
            ) from error
        except ConnectionError as error:
            if not (args.use_vllm and args.vllm_mode == "server"):
                raise
            raise UsageError(
                f"no vLLM server answers at {_place(args)} (--vllm_server_timeout {args.vllm_server_timeout:g} "
                "seconds); start one with `triptych serve MODEL`, or name the place of another with "
                "--vllm_server_base_url"
            ) from error


@contextmanager
def _without_nccl(active: bool) -> Iterator[None]:
    """While TRL connects to a server, let it open no NCCL group, for which both sides need a GPU."""
    if not active:
        yield
        return
    module = vllm_generation_module()
    stock = module.VLLMClient

    class Client(stock):  # type: ignore[misc, valid-type]
        def init_communicator(self, device: Any = 0) -> None:
            """Open nothing: weights go by a folder."""

    module.VLLMClient = Client
    try:
        yield
    finally:
        module.VLLMClient = stock
