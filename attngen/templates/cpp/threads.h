// Runs tasks on torch's OpenMP threads. The symbols are weak: they resolve to the libgomp that torch has loaded, so
// that torch.set_num_threads applies and no second pool competes for the cores; without them the caller's thread
// does all tasks. A task's result does not depend on who runs it, so neither does any bit of the output.
#pragma once

extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
extern "C" int sched_yield(void);

namespace attngen {

// Calls worker(queue) once per thread; queue.next() hands out tasks 0, 1, ... count - 1, then -1. With `neighbours` every
// thread has a run of consecutive tasks, which may share keys that it has in its cache, and helps others when its own
// are done; without, tasks are begun in their order.
template <class Worker>
struct Team {
  static constexpr int MOST_RUNS = 256;
  Worker& worker;
  long count, runs, members;
  long taken[MOST_RUNS];

  struct Queue {
    Team& team;
    long run, finished;
    long next() {
      for (; finished < team.runs; finished++, run = (run + 1) % team.runs) {
        const long first = team.count * run / team.runs, last = team.count * (run + 1) / team.runs;
        const long task = first + __atomic_fetch_add(&team.taken[run], 1, __ATOMIC_RELAXED);
        if (task < last) return task;
      }
      return -1;
    }
  };
  static void enter(void* team) {
    Team& self = *(Team*)team;
    Queue queue = {self, __atomic_fetch_add(&self.members, 1, __ATOMIC_RELAXED) % self.runs, 0};
    self.worker(queue);
  }
};

template <class Worker>
static inline void run_tasks(long count, long threads, bool neighbours, Worker&& worker) {
  typedef Team<Worker> T;
  if (threads > count) threads = count;
  const bool parallel = threads > 1 && GOMP_parallel;
  const long runs = threads < T::MOST_RUNS ? threads : T::MOST_RUNS;
  T team = {worker, count, parallel && neighbours ? runs : 1, 0, {}};
  if (parallel)
    GOMP_parallel(&T::enter, &team, (unsigned)threads, 0);
  else if (count > 0)
    T::enter(&team);
}

}  // namespace attngen
