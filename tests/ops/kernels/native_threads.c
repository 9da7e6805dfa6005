/* native.c with as much of an OpenMP runtime as it needs, on threads that a sanitizer knows: GCC's own runtime synchronizes
 * by means that ThreadSanitizer does not see, so that every use of it would look like a race.
 *
 * Runs forward, backward and the choice of neighbours by one thread and by several, and ends with 1 where their bits differ. With an argument
 * the threads write to one counter, a race that must be found.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "native.c"

#define THREADS 4

static pthread_barrier_t barrier;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int mine;
static int team = 1;
static long next_item, end_item, step;

typedef struct {
  void (*work)(void *);
  void *data;
  int number;
} start_t;

int omp_get_num_threads(void) { return team; }
int omp_get_thread_num(void) { return mine; }

static void *run(void *argument) {
  const start_t *start = argument;
  mine = start->number;
  start->work(start->data);
  return NULL;
}

void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags) {
  (void)flags;
  pthread_t started[THREADS];
  start_t starts[THREADS];
  team = (int)threads, next_item = -1;
  pthread_barrier_init(&barrier, NULL, threads);
  for (int i = 0; i < team; i++) {
    starts[i] = (start_t){work, data, i};
    pthread_create(&started[i], NULL, run, &starts[i]);
  }
  for (int i = 0; i < team; i++) pthread_join(started[i], NULL);
  pthread_barrier_destroy(&barrier);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to) {
  pthread_mutex_lock(&lock);
  *from = next_item, *to = next_item + step < end_item ? next_item + step : end_item;
  const bool some = next_item < end_item;
  next_item = *to;
  pthread_mutex_unlock(&lock);
  return some;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long last, long by, long chunk, long *from, long *to) {
  pthread_mutex_lock(&lock);
  if (next_item < 0) next_item = first, end_item = last, step = by * chunk;
  pthread_mutex_unlock(&lock);
  return GOMP_loop_nonmonotonic_dynamic_next(from, to);
}

void GOMP_barrier(void) { pthread_barrier_wait(&barrier); }
void GOMP_loop_end(void) { GOMP_barrier(); }
void GOMP_loop_end_nowait(void) {}

enum {
  W = 5, H = 3, SIDE = 7, N = SIDE * SIDE, K = 9, D = 20, CHANNELS = 6, GROUPS = 2, SPAN = (2 * SIDE - 1) * (2 * SIDE - 1)
};
typedef real heads_t[W * H * N * D];
static heads_t q, k, v, grad_out;
static real table[H * SPAN], scale[H] = {1, 2, 3}, nodes[W * N * CHANNELS];

typedef struct {
  heads_t out, grad_q, grad_k, grad_v;
  real grad_table[GROUPS * H * SPAN], grad_scale[GROUPS * H];
  int32_t index[W * N * K];
} results_t;
static results_t by_one, by_many;

static tensor_t heads_of(real *data) { return (tensor_t){data, H * N * D, N * D, D}; }

static int compute(results_t *r, int64_t threads) {
  const shape_t shape = {W, H, N, D, K, SIDE, threads, 1};
  const tensor_t a = heads_of(q), b = heads_of(k), c = heads_of(v), g = heads_of(grad_out), out = heads_of(r->out);
  const tensor_t grad_a = heads_of(r->grad_q), grad_b = heads_of(r->grad_k), grad_c = heads_of(r->grad_v);
  const index_t index = {r->index, N * K, K};
  return kgt_neighbours(nodes, W, N, CHANNELS, K, r->index, threads) |
         kgt_forward(&shape, &a, &b, &c, &index, table, scale, &out) |
         kgt_backward(&shape, &a, &b, &c, &index, table, scale, &g, &grad_a, &grad_b, &grad_c, r->grad_table, r->grad_scale,
                      GROUPS);
}

static void fill(real *numbers, int64_t count) {
  static uint32_t state = 1;
  for (int64_t n = 0; n < count; n++) state = state * 1664525u + 1013904223u, numbers[n] = (real)(state >> 8) / (1 << 23) - 1;
}

static long counter;
static void count(void *unused) {
  (void)unused;
  for (int i = 0; i < 1000; i++) counter++;
}

int main(int arguments, char **argument) {
  (void)argument;
  if (arguments > 1) GOMP_parallel(count, NULL, THREADS, 0);
  fill(q, W * H * N * D), fill(k, W * H * N * D), fill(v, W * H * N * D), fill(grad_out, W * H * N * D);
  fill(table, H * SPAN), fill(nodes, W * N * CHANNELS);
  const int failed = compute(&by_one, 1) | compute(&by_many, THREADS);
  printf("%d threads: sum of the output %.3f\n", THREADS, (double)by_many.out[0]);
  return failed || memcmp(&by_one, &by_many, sizeof(by_one)) != 0;
}
