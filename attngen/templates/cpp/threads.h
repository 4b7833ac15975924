// Runs tasks on torch's OpenMP threads. The symbols are weak: they resolve to the libgomp that torch has loaded, so
// that torch.set_num_threads applies and no second pool competes for the cores; without them the caller's thread
// does all tasks. A task's result does not depend on who runs it, so neither does any bit of the output.
#pragma once

extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
extern "C" int sched_yield(void);

namespace attngen {

// Calls worker(next) once per thread; next() hands out 0, 1, ... count - 1, then -1.
template <class Worker>
struct Team {
  Worker& worker;
  long count;
  long taken;
  long next() {
    long task = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
    return task < count ? task : -1;
  }
  static void enter(void* team) {
    Team& self = *(Team*)team;
    self.worker(self);
  }
};

template <class Worker>
static inline void run_tasks(long count, long threads, Worker&& worker) {
  Team<Worker> team{worker, count, 0};
  if (threads > count) threads = count;
  if (threads > 1 && GOMP_parallel)
    GOMP_parallel(&Team<Worker>::enter, &team, (unsigned)threads, 0);
  else if (count > 0)
    team.enter(&team);
}

}  // namespace attngen
