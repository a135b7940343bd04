"""A tree of boxes around solids, for rays from one origin."""

from __future__ import annotations

import numpy as np

from worldengine_envs.simulation.kernels import allocating_kernel

LEAF = 2  # solids a leaf holds at most


@allocating_kernel
def build_tree(low, high):
    """Returns the order of boxes (n,) in their tree, and its nodes: box (nodes, 6), skip, first, last; see ``raycast.Solids``."""
    n = len(low)
    order = np.arange(n)
    most = max(2 * n, 1)
    box, skip = np.zeros((most, 6)), np.zeros(most, np.int32)
    first, last, parent = np.zeros(most, np.int32), np.zeros(most, np.int32), np.full(most, -1, np.int32)
    todo = [(0, n, -1)]
    nodes = 0
    while len(todo) > 0 and n > 0:
        begin, end, above = todo.pop()
        node, nodes = nodes, nodes + 1
        parent[node] = above
        _bound(low, high, order, begin, end, box[node])
        if end - begin <= LEAF:
            first[node], last[node] = begin, end
            continue
        middle = _split(low, high, order, begin, end)
        left, right = np.empty(6), np.empty(6)
        _bound(low, high, order, begin, middle, left)
        _bound(low, high, order, middle, end, right)
        if _distance(left) < _distance(right):  # the last one put on the pile is next
            todo.append((middle, end, node))
            todo.append((begin, middle, node))
        else:
            todo.append((begin, middle, node))
            todo.append((middle, end, node))
    size = np.ones(nodes, np.int32)
    for node in range(nodes - 1, -1, -1):
        skip[node] = node + size[node]
        if parent[node] >= 0:
            size[parent[node]] += size[node]
    return order, box[:nodes].copy(), skip[:nodes].copy(), first[:nodes].copy(), last[:nodes].copy()


@allocating_kernel
def _bound(low, high, order, begin, end, box):
    for k in range(3):
        box[k], box[3 + k] = np.inf, -np.inf
        for i in range(begin, end):
            box[k] = min(box[k], low[order[i], k])
            box[3 + k] = max(box[3 + k], high[order[i], k])


@allocating_kernel
def _distance(box):
    """Returns the squared distance of a box from the origin, and a little of its centre's where that is the same."""
    near, centre = 0.0, 0.0
    for k in range(3):
        near += max(box[k], 0.0, -box[3 + k]) ** 2
        centre += (box[k] + box[3 + k]) ** 2
    return near + 1e-3 * centre


@allocating_kernel
def _split(low, high, order, begin, end):
    """Sorts order[begin:end] along its longest axis and returns where to cut it: least area times number on both sides."""
    n = end - begin
    widest, axis = -1.0, 0
    for k in range(3):
        lowest, highest = np.inf, -np.inf
        for i in range(begin, end):
            middle = low[order[i], k] + high[order[i], k]
            lowest, highest = min(lowest, middle), max(highest, middle)
        if highest - lowest > widest:
            widest, axis = highest - lowest, k
    part = order[begin:end].copy()
    part = part[np.argsort(low[part, axis] + high[part, axis], kind="mergesort")]
    order[begin:end] = part
    cost, box = np.zeros(n), np.empty(6)
    for direction in range(2):
        box[:3], box[3:] = np.inf, -np.inf
        for j in range(n - 1):  # j + 1 solids on this side
            i = part[j] if direction == 0 else part[n - 1 - j]
            for k in range(3):
                box[k], box[3 + k] = min(box[k], low[i, k]), max(box[3 + k], high[i, k])
            x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
            cost[j + 1 if direction == 0 else n - 1 - j] += (x * y + y * z + z * x) * (j + 1)
    return begin + 1 + np.argmin(cost[1:])
