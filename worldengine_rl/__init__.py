"""Post-training of driving policies: cloning, mining of failures, behaviour-regularised PPO, evaluation."""
