"""Two processes that talk to each other by gloo, for all tests."""

import os
import shutil
import tempfile
import traceback
from datetime import timedelta

import torch.multiprocessing as mp
from torch import distributed

TIMEOUT = timedelta(minutes=5)  # for one function


class TwoRanks:
    """Starts two processes once, and runs functions in both of them.

    The variables of the launcher are set there, so that a ``Runner`` with
    ``launcher='pytorch'`` is one of two. A function leaves the process group
    as it is, and nothing behind that the next one could trip over.
    """

    def __enter__(self):
        self._folder = tempfile.mkdtemp()
        context = mp.get_context('spawn')
        self._pipes, self._processes = [], []
        for rank in range(2):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, self._folder, there)
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        return self

    def __exit__(self, *error):
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)
            process.kill()
            process.join()
        shutil.rmtree(self._folder)

    def run(self, function, *args):
        """Call ``function(rank, *args)`` in both processes at once.

        Args:
            function (Callable): One that a module has by its name. What it
                takes and returns is pickled; tensors travel as files do, so
                return few and small ones.

        Returns:
            list: What it returned on rank 0 and on rank 1.
        """
        for pipe in self._pipes:
            pipe.send((function, args))
        results = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(TIMEOUT.total_seconds()):
                for process in self._processes:
                    process.kill()
                raise TimeoutError(f'rank {rank} does not answer')
            results.append(pipe.recv())
        for rank, (_, error) in enumerate(results):
            assert error is None, f'rank {rank}:\n{error}'
        return [result for result, _ in results]


def _serve(rank, folder, pipe):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        CUDA_VISIBLE_DEVICES='',
    )
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=2,
        # Of one that waits for another that failed.
        timeout=timedelta(minutes=1),
    )
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(rank, *args), None
        except Exception:
            answer = None, traceback.format_exc()
        pipe.send(answer)
