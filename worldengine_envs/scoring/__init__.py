"""The PDM Score: ``pdms`` of planned motion, ``live`` of executed motion, ``epdms``, and the PDM-Closed planner."""
