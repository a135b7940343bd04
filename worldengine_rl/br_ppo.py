"""Behaviour-regularised PPO: Stable-Baselines3's PPO, held close to the policy it started from.

One iteration: collect ``n_steps`` decisions of every world, then maximise by minibatches

    clipped surrogate(GAE advantages) - kl_coef * KL(pi || pi_ref) - replay_coef * KL(pi_ref || pi) of replayed decisions
    - vf_coef * value error + ent_coef * entropy

where ``pi_ref`` is a frozen copy of the policy and both KL are exact (the distributions are known in closed form), averaged over
decisions. ``kl_coef`` is adapted after every rollout so that the KL per decision settles at ``target_kl_ref`` (the KL penalty of
Schulman et al. 2017, section 4, and Ziegler et al. 2019). The KL follows the coefficient with a lag of several iterations, so a
controller that only adds up errors swings; ours (proportional and integral, on logarithms) also answers the change of the error.
The second KL is over observations that are given beforehand (``set_replay``), drawn beside every minibatch (experience mixing): in
those situations the policy is to stay as the reference is, however far it moves elsewhere.
For one decision with reward r, advantages as they are (not normalised), no clipping and a fixed coefficient b the optimum is known:
pi = pi_ref exp(r / b) / Z.
"""

from __future__ import annotations

import copy
import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from gymnasium import spaces
from safetensors.torch import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from torch.distributions import Categorical, Distribution, Normal, kl_divergence

from worldengine_envs.errors import DataError, WorldEngineError

KL_COEF_RANGE = (1e-3, 1e2)  # the adapted coefficient stays inside
KL_PROPORTIONAL, KL_INTEGRAL = 1.5, 0.1  # gains of the controller on log(kl / target), which is clipped to [-1, 1]

COUNTERS = {"num_timesteps": int, "_n_updates": int, "iterations_done": int, "kl_coef": float, "kl_error": float}


class NonFiniteLossError(WorldEngineError, ArithmeticError):
    """A loss or gradient was NaN or infinite; the batch that did it is in ``batch_file``."""

    def __init__(self, what: str, batch_file: Path, update: int):
        super().__init__(
            f"{what} is not finite in update {update}; the batch is saved in {batch_file} (safetensors). "
            "The parameters are those from before it: lower the learning rate, or look for extreme observations in the batch"
        )
        self.batch_file = batch_file


def divergence(distribution: Distribution, reference: Distribution) -> torch.Tensor:
    """Returns (batch,) exact KL(distribution || reference) [nats per decision]; sums over the dimensions of a Box action."""
    if isinstance(distribution, Categorical):  # from logits: torch's own is infinite where a reference probability underflows to 0
        return (distribution.logits.exp() * (distribution.logits - reference.logits)).sum(-1)
    return kl_divergence(distribution, reference).sum(-1)


def distribution_parameters(distribution: Distribution) -> dict[str, torch.Tensor]:
    """Returns what it takes to build the distribution again, one row per decision."""
    if isinstance(distribution, Categorical):
        return {"logits": distribution.logits}
    if isinstance(distribution, Normal):
        return {"loc": distribution.loc, "scale": distribution.scale}
    raise NotImplementedError(f"BRPPO knows Discrete and Box policies without gSDE, not {type(distribution).__name__}")


class BRPPO(PPO):
    """PPO with a KL term to a frozen reference policy; everything else (callbacks, loggers, save, load) is PPO's.

    The reference is a copy of the policy as it is when the model is made; call ``set_reference()`` after loading other weights. It
    is saved and loaded with the model. Differences to PPO's defaults: gamma 1.0 (episodes are short and their return is the score),
    and no bootstrapping at time limits, because there the score is final.

    Args:
        target_kl_ref: KL per decision to settle at [nats]; None keeps ``kl_coef`` fixed.
        kl_coef: weight of the KL term, at the start if it is adapted. 0 with ``target_kl_ref=None`` is plain PPO.
        critic_warmup: number of first iterations that train the value function only. It needs a policy whose actor and critic
            share no parameters to leave the actor untouched.
        replay_coef: weight of the KL term of replayed decisions; without a replay (``set_replay``) there is none.
        replay_batch_size: number of replayed decisions beside every minibatch.
        bootstrap_time_limits: add the value of the last observation where an episode was cut by its time limit, as PPO does.
        Others as in ``stable_baselines3.PPO``.
    """

    def __init__(
        self,
        policy,
        env,
        *,
        target_kl_ref: float | None = 0.05,
        kl_coef: float = 0.1,
        critic_warmup: int = 0,
        replay_coef: float = 0.0,
        replay_batch_size: int = 256,
        bootstrap_time_limits: bool = False,
        learning_rate=3e-4,
        n_steps: int = 32,
        batch_size: int = 512,
        n_epochs: int = 4,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        **ppo_arguments,
    ):
        self.target_kl_ref, self.kl_coef, self.critic_warmup = target_kl_ref, kl_coef, critic_warmup
        self.replay_coef, self.replay_batch_size = replay_coef, replay_batch_size
        self.replay: dict | None = None
        self.bootstrap_time_limits = bootstrap_time_limits
        self.iterations_done = 0
        self.kl_error = -1.0  # of the last rollout; at the start the policy is the reference
        with warnings.catch_warnings():  # a last minibatch that is smaller than the others does no harm
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
            super().__init__(
                policy, env, learning_rate, n_steps, batch_size, n_epochs, gamma=gamma, gae_lambda=gae_lambda, **ppo_arguments
            )
        if self.use_sde:
            raise NotImplementedError("BRPPO does not support use_sde=True: the exact KL needs a plain Gaussian")

    # -- the reference policy ------------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        super()._setup_model()
        self.set_reference()

    def set_reference(self, policy: ActorCriticPolicy | None = None) -> None:
        """Freezes a copy of ``policy`` (default: the current one) as the behaviour to stay close to."""
        reference = copy.deepcopy(self.policy if policy is None else policy)
        reference.optimizer = None  # never stepped
        self.reference_policy = reference.requires_grad_(False).eval()

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, "reference_policy"], variables

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last_obs", "_last_original_obs", "_last_episode_starts", "replay"]

    def restore(self, path: str | Path) -> None:
        """Goes on from a checkpoint of a model that was made alike: takes its weights, optimiser state and counters.

        Unlike ``load`` it reads no pickles, so nothing that the file contains is run.

        Raises:
            DataError: No such checkpoint, or one of another model; what the model holds is undefined then.
        """
        try:
            with ZipFile(path) as archive:
                content = json.loads(archive.read("data"))
            counters = {name: kind(content[name]) for name, kind in COUNTERS.items()}
            self.set_parameters(path, device=self.device)  # torch.load with weights_only
        except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, UnpicklingError, BadZipFile, zlib.error) as error:
            remedy = "Delete it to begin anew, or go on with the settings that it was made with"
            raise DataError(f"not a checkpoint of this model ({str(error)[:200]})", file=path, remedy=remedy) from error
        vars(self).update(counters)

    def set_replay(self, observations: dict[str, np.ndarray] | np.ndarray) -> None:
        """Sets observations (decisions, ...) at which the policy is to stay as the reference now is; they are not saved."""
        tensors = obs_as_tensor(observations, self.device)
        self.replay = {"observations": tensors, "reference": self._parameters(self.reference_policy, tensors)}

    # -- rollouts ------------------------------------------------------------------------------------------------------------------

    def collect_rollouts(self, env, callback, rollout_buffer, n_rollout_steps: int) -> bool:
        """Fills the buffer with ``n_rollout_steps`` decisions of every world; False where a callback stopped it."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            with torch.no_grad():
                actions, values, log_probs = self.policy(obs_as_tensor(self._last_obs, self.device))
            actions = actions.cpu().numpy()
            box = isinstance(self.action_space, spaces.Box)
            new_obs, rewards, dones, infos = env.step(
                np.clip(actions, self.action_space.low, self.action_space.high) if box else actions
            )
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            if self.bootstrap_time_limits:
                rewards = self._add_final_values(rewards, dones, infos)
            actions = actions.reshape(env.num_envs, -1)
            rollout_buffer.add(self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs)
            self._last_obs, self._last_episode_starts = new_obs, dones
        with torch.no_grad():
            values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _add_final_values(self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict]) -> np.ndarray:
        rewards = rewards.copy()
        for i in np.flatnonzero(dones):
            if infos[i].get("TimeLimit.truncated", False):
                observation, _ = self.policy.obs_to_tensor(infos[i]["terminal_observation"])
                with torch.no_grad():
                    rewards[i] += self.gamma * float(self.policy.predict_values(observation))
        return rewards

    # -- updates -------------------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Updates policy and value function with the rollout in the buffer, and the KL coefficient with the KL found there."""
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        rollout = self._flat_rollout()
        kl_of_rollout = self._add_reference(rollout)
        self.policy.set_training_mode(True)
        warming_up = self.iterations_done < self.critic_warmup
        logs: dict[str, list[float]] = {}
        for batch in self._minibatches(rollout):
            terms = self._losses(batch, clip_range)
            loss = self.vf_coef * terms["value_loss"]
            if not warming_up:
                loss = loss + terms["policy_gradient_loss"] + self.kl_coef * terms["kl_ref"] + self.ent_coef * terms["entropy_loss"]
                if self.replay is not None:
                    terms["kl_replay"] = self._replay_loss()
                    loss = loss + self.replay_coef * terms["kl_replay"]
            terms["loss"] = loss
            if not warming_up and self.target_kl is not None and terms["approx_kl"] > 1.5 * self.target_kl:
                break  # PPO's own guard against one too large update
            self._gradient_step(loss, batch)
            for name, value in terms.items():
                logs.setdefault(name, []).append(float(value.detach()))
        self._record(logs, kl_of_rollout, clip_range)
        self.iterations_done += 1
        if self.target_kl_ref is not None and not warming_up:
            self._adapt_kl_coef(kl_of_rollout)

    def _adapt_kl_coef(self, kl: float) -> None:
        error = float(np.clip(np.log(max(kl, 1e-9) / self.target_kl_ref), -1.0, 1.0))
        factor = np.exp(KL_PROPORTIONAL * (error - self.kl_error) + KL_INTEGRAL * error)
        self.kl_coef, self.kl_error = float(np.clip(self.kl_coef * factor, *KL_COEF_RANGE)), error

    def _flat_rollout(self) -> dict:
        """Returns the buffer as tensors of n_steps * n_envs rows on the device; observations stay a dict where they are one."""
        buffer = self.rollout_buffer
        flat = buffer.swap_and_flatten

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(flat(array), device=self.device)

        observations = buffer.observations
        is_dict = isinstance(observations, dict)
        actions = tensor(buffer.actions)
        return {
            "observations": {k: tensor(v) for k, v in observations.items()} if is_dict else tensor(observations),
            "actions": actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else actions,
            "old_log_prob": tensor(buffer.log_probs).flatten(),
            "advantages": tensor(buffer.advantages).flatten(),
            "returns": tensor(buffer.returns).flatten(),
        }

    def _add_reference(self, rollout: dict) -> float:
        """Adds the reference's distribution parameters to the rollout; returns the mean KL(pi || pi_ref) of its decisions."""
        current, rollout["reference"] = (
            self._parameters(policy, rollout["observations"]) for policy in (self.policy, self.reference_policy)
        )
        kind = Categorical if "logits" in current else Normal
        return float(divergence(kind(**current, validate_args=False), kind(**rollout["reference"], validate_args=False)).mean())

    @torch.no_grad()
    def _parameters(self, policy: ActorCriticPolicy, observations) -> dict[str, torch.Tensor]:
        """Returns the distribution parameters of a policy for many observations."""
        rows = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        parts = []
        for start in range(0, rows, self.batch_size):
            batch = _take(observations, slice(start, start + self.batch_size))
            parts.append(distribution_parameters(policy.get_distribution(batch).distribution))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _minibatches(self, rollout: dict) -> Iterator[dict]:
        rows = len(rollout["returns"])
        for _ in range(self.n_epochs):
            order = torch.randperm(rows, device=self.device)
            for start in range(0, rows, self.batch_size):
                yield _take(rollout, order[start : start + self.batch_size])
            self._n_updates += 1

    def _losses(self, batch: dict, clip_range: float) -> dict[str, torch.Tensor]:
        """Returns every term of the loss, and what is worth logging, as scalars."""
        policy, observations = self.policy, batch["observations"]
        features = policy.extract_features(observations)
        actor_features, critic_features = (features, features) if policy.share_features_extractor else features
        wrapped = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(actor_features))
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic_features)).flatten()
        distribution = wrapped.distribution
        reference = type(distribution)(**batch["reference"], validate_args=False)

        advantages = batch["advantages"]
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = wrapped.log_prob(batch["actions"]) - batch["old_log_prob"]
        ratio = log_ratio.exp()
        surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
        return {
            "policy_gradient_loss": -surrogate.mean(),
            "kl_ref": divergence(distribution, reference).mean(),
            "entropy_loss": -wrapped.entropy().mean(),
            "value_loss": torch.nn.functional.mse_loss(values, batch["returns"]),
            "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
            "approx_kl": (ratio - 1 - log_ratio).mean(),  # Schulman's estimate of the KL to the policy of the rollout
        }

    def _replay_loss(self) -> torch.Tensor:
        """Returns the mean KL(pi_ref || pi) of replayed decisions drawn at random."""
        rows = torch.randint(len(next(iter(self.replay["reference"].values()))), (self.replay_batch_size,), device=self.device)
        batch = _take(self.replay, rows)
        distribution = self.policy.get_distribution(batch["observations"]).distribution
        return divergence(type(distribution)(**batch["reference"], validate_args=False), distribution).mean()

    def _gradient_step(self, loss: torch.Tensor, batch: dict) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError("the loss", self._save_batch(batch), self._n_updates)
        self.policy.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        if not torch.isfinite(norm):
            raise NonFiniteLossError("the gradient", self._save_batch(batch), self._n_updates)
        self.policy.optimizer.step()

    def _save_batch(self, batch: dict) -> Path:
        folder = Path(self.logger.get_dir() or ".")
        path = folder / f"non_finite_batch_{self._n_updates}.safetensors"
        tensors = {}
        for name, value in batch.items():
            parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            tensors |= {key: part.detach().cpu().contiguous() for key, part in parts.items()}
        save_file(tensors, path)
        return path

    def _record(self, logs: dict[str, list[float]], kl_of_rollout: float, clip_range: float) -> None:
        record = self.logger.record
        record("rollout/kl_ref", kl_of_rollout)
        record("train/kl_coef", self.kl_coef)
        for name, values in logs.items():
            record(f"train/{name}", float(np.mean(values)))
        buffer = self.rollout_buffer
        record("train/explained_variance", float(explained_variance(buffer.values.flatten(), buffer.returns.flatten())))
        record("train/clip_range", clip_range)
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        if hasattr(self.policy, "log_std"):
            record("train/std", float(self.policy.log_std.detach().exp().mean()))


def _take(tree, rows):
    """Returns the rows of a tensor, or of every tensor in a (nested) dict."""
    return {key: _take(value, rows) for key, value in tree.items()} if isinstance(tree, dict) else tree[rows]
