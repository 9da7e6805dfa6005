/* Key-Graph Attention over neighbour lists, forward and backward, on the CPU.
 *
 * Built once per machine by native_build.py, for float and (with -DKGT_DOUBLE) for double. GCC and Clang vector extensions
 * instead of intrinsics, so that one source serves x86 and ARM.
 *
 * Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width. A unit is one (window, head) pair. Its keys and values
 * are packed into rows of whole vectors that stay in the second-level cache; every query then reads only its neighbours' rows.
 *
 * The same inputs give the same bits, whatever the number of threads: a query is computed by one thread, the gradients of a
 * unit are summed by one thread in the order of the queries, and those of the bias table in a fixed order of windows.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

#ifdef KGT_DOUBLE
typedef double real;
typedef int64_t word;
#define LANES (BYTES / 8)
#define MANTISSA 52
#define EXPONENT_BIAS 1023
#define ROUND_TO_INTEGER 0x1.8p52
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#define SMALLEST_EXPONENT (-708.0)
#define TERMS 13
#else
typedef float real;
typedef int32_t word;
#define LANES (BYTES / 4)
#define MANTISSA 23
#define EXPONENT_BIAS 127
#define ROUND_TO_INTEGER 0x1.8p23f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define SMALLEST_EXPONENT (-87.0f)
#define TERMS 7
#endif

/* They lie over arrays of their elements. */
typedef real vec __attribute__((vector_size(BYTES), may_alias));
typedef word ivec __attribute__((vector_size(BYTES), may_alias));

/* Vectors of a row that are worked on at once, so that the accumulators stay in registers. */
#define GROUP 4
#define INLINE static inline __attribute__((always_inline))

INLINE vec splat(real x) { return x - (vec){0}; }

/* ---------------------------------------------------------------- sums of many vectors */

#if defined(__clang__) || __GNUC__ >= 12
#define HAVE_SHUFFLE 1
#define SHUFFLE __builtin_shufflevector
#endif

/* One step of the transposed sum: each result keeps half of both inputs, added to the other half. */
#if HAVE_SHUFFLE && !defined(KGT_DOUBLE) && LANES == 16
#define STEPS 4
#define ADD_1(a, b)                                                               \
  (SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +      \
   SHUFFLE(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31))
#define ADD_2(a, b)                                                               \
  (SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +      \
   SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
#define ADD_3(a, b)                                                               \
  (SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +      \
   SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define ADD_4 ADD_3
#elif HAVE_SHUFFLE && !defined(KGT_DOUBLE) && LANES == 8
#define STEPS 3
#define ADD_1(a, b) (SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13) + SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15))
#define ADD_2(a, b) (SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15))
#define ADD_3(a, b) (SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#elif HAVE_SHUFFLE && !defined(KGT_DOUBLE) && LANES == 4
#define STEPS 2
#define ADD_1(a, b) (SHUFFLE(a, b, 0, 4, 1, 5) + SHUFFLE(a, b, 2, 6, 3, 7))
#define ADD_2(a, b) (SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7))
#elif HAVE_SHUFFLE && defined(KGT_DOUBLE) && LANES == 8
#define STEPS 3
#define ADD_1(a, b) (SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15))
#define ADD_2(a, b) (SHUFFLE(a, b, 0, 1, 4, 5, 8, 9, 12, 13) + SHUFFLE(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define ADD_3 ADD_2
#elif HAVE_SHUFFLE && defined(KGT_DOUBLE) && LANES == 4
#define STEPS 2
#define ADD_1(a, b) (SHUFFLE(a, b, 0, 4, 2, 6) + SHUFFLE(a, b, 1, 5, 3, 7))
#define ADD_2(a, b) (SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7))
#elif HAVE_SHUFFLE && defined(KGT_DOUBLE) && LANES == 2
#define STEPS 1
#define ADD_1(a, b) (SHUFFLE(a, b, 0, 2) + SHUFFLE(a, b, 1, 3))
#else
#define STEPS 0
#endif

INLINE real sum(vec x) {
  real total = 0;
  for (int lane = 0; lane < LANES; lane++) total += x[lane];
  return total;
}

/* Vector whose lane l is the sum of x[l]; x is overwritten. */
INLINE vec sums(vec x[LANES]) {
#if STEPS == 0
  vec result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = sum(x[lane]);
  return result;
#endif
#if STEPS >= 1
  for (int i = 0; i < LANES / 2; i++) x[i] = ADD_1(x[2 * i], x[2 * i + 1]);
#endif
#if STEPS >= 2
  for (int i = 0; i < LANES / 4; i++) x[i] = ADD_2(x[2 * i], x[2 * i + 1]);
#endif
#if STEPS >= 3
  for (int i = 0; i < LANES / 8; i++) x[i] = ADD_3(x[2 * i], x[2 * i + 1]);
#endif
#if STEPS >= 4
  for (int i = 0; i < LANES / 16; i++) x[i] = ADD_4(x[2 * i], x[2 * i + 1]);
#endif
  return x[0];
}

/* exp of numbers that are not positive; 0 below the normal range. e^x = 2^n e^r with |r| <= ln(2)/2 and the series of e^r. */
INLINE vec exp_nonpositive(vec x) {
  vec shifted = x * (real)1.4426950408889634 + ROUND_TO_INTEGER;
  vec n = shifted - ROUND_TO_INTEGER;
  vec r = x - n * LN2_HIGH - n * LN2_LOW;
  static const real inverse_factorial[] = {1.0,           1.0,           1.0 / 2,        1.0 / 6,       1.0 / 24,
                                           1.0 / 120,     1.0 / 720,     1.0 / 5040,     1.0 / 40320,   1.0 / 362880,
                                           1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
  vec series = splat(inverse_factorial[TERMS]);
#pragma GCC unroll 16
  for (int term = TERMS - 1; term >= 0; term--) series = series * r + inverse_factorial[term];
  ivec exponent = (ivec)shifted - (ivec)splat(ROUND_TO_INTEGER) + EXPONENT_BIAS;
  vec result = series * (vec)(exponent << MANTISSA);
  return (vec)((ivec)result & ~(ivec)(x < SMALLEST_EXPONENT));
}

/* ---------------------------------------------------------------- work on the rows of neighbours */

/* score[n] += x . row n, for whole vectors of neighbours; `offset` counts bytes from `rows`. */
INLINE void dots(const int vectors, const vec *x, const char *rows, const uint32_t *offset, int64_t padded, real *score) {
  vec mine[GROUP];
  for (int b = 0; b < vectors; b++) mine[b] = x[b];
  for (int64_t n = 0; n < padded; n += LANES) {
    vec products[LANES];
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) {
      const vec *row = (const vec *)(rows + offset[n + lane]);
      vec product = mine[0] * row[0];
      for (int b = 1; b < vectors; b++) product += mine[b] * row[b];
      products[lane] = product;
    }
    *(vec *)(score + n) += sums(products);
  }
}

/* total = sum over n of weight[n] * row n. */
INLINE void weighted_sum(const int vectors, const real *weight, const char *rows, const uint32_t *offset, int64_t padded,
                         vec *total) {
  /* Four sums at once hide the latency of the multiply-add. */
  vec part[4][GROUP] = {0};
  for (int64_t n = 0; n < padded; n += 4)
#pragma GCC unroll 4
    for (int p = 0; p < 4; p++) {
      const vec *row = (const vec *)(rows + offset[n + p]);
      for (int b = 0; b < vectors; b++) part[p][b] += weight[n + p] * row[b];
    }
  for (int b = 0; b < vectors; b++) total[b] = (part[0][b] + part[1][b]) + (part[2][b] + part[3][b]);
}

/* row n += weight[n] * x, for every neighbour. */
INLINE void add_to_rows(const int vectors, const real *weight, const vec *x, char *rows, const uint32_t *offset,
                        int64_t count) {
  vec mine[GROUP];
  for (int b = 0; b < vectors; b++) mine[b] = x[b];
  for (int64_t n = 0; n < count; n++) {
    vec *row = (vec *)(rows + offset[n]);
    for (int b = 0; b < vectors; b++) row[b] += weight[n] * mine[b];
  }
}

/* Calls f for every group of at most GROUP vectors, with the number of vectors known to the compiler. */
#define FOR_EACH_GROUP(vectors, b, CALL)      \
  for (int b = 0; b < (vectors); b += GROUP)  \
    switch ((vectors) - b) {                  \
      case 1: CALL(1); break;                 \
      case 2: CALL(2); break;                 \
      case 3: CALL(3); break;                 \
      default: CALL(4); break;                \
    }

/* ---------------------------------------------------------------- one unit */

typedef struct {
  int64_t windows, heads, nodes, width, neighbours, side, threads;
  int64_t cosine; /* whether queries and keys are brought to unit length */
} shape_t;

/* A [W, H, N, D] tensor whose last dimension is contiguous; strides count elements. */
typedef struct {
  real *data;
  int64_t window, head, node;
} tensor_t;

/* [W, N, K], K contiguous. */
typedef struct {
  const int32_t *data;
  int64_t window, node;
} index_t;

/* Queries that take each step of their computation together: most steps end in sums over lanes, long chains of which the
 * processor works on several at once. */
#define QUERIES 8
/* Their lists together, in elements: they stay in the first-level cache. */
#define LISTS 4096

typedef struct {
  uint32_t *offset; /* [padded] bytes */
  real *score, *grad_score; /* [padded] */
  vec *unit, *query, *grad_out, *result; /* unit: the query before the scale */
  real inverse, top, total, mean; /* 1 / length of the query, largest score, sum of the exponentials, mean of grad_score */
} query_t;

typedef struct {
  int vectors;      /* of a row */
  int64_t padded;   /* neighbours, rounded up to whole vectors */
  char *keys, *values, *grad_keys, *grad_values; /* [N] rows */
  int32_t *place;   /* [N]: y * (2M-1) + x; the bias entry of (i, j) is place[i] - place[j] + a constant */
  real *inverse;    /* [N]: 1 / length of a key; 1 without cosine */
  query_t query[QUERIES];
  int at_once;      /* queries, at most QUERIES */
  void *memory;
} scratch_t;

static int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

static int scratch_make(scratch_t *s, const shape_t *shape, int with_gradients) {
  s->vectors = (int)((shape->width + LANES - 1) / LANES);
  s->padded = (shape->neighbours + 15) / 16 * 16;
  s->at_once = s->padded * QUERIES <= LISTS ? QUERIES : s->padded < LISTS ? (int)(LISTS / s->padded) : 1;
  const int64_t rows = aligned(shape->nodes * s->vectors * BYTES), row = aligned((int64_t)s->vectors * BYTES);
  const int64_t list = aligned(s->padded * (int64_t)sizeof(real));
  const int64_t sizes[] = {rows, rows, with_gradients ? rows : 0, with_gradients ? rows : 0, aligned(shape->nodes * 4),
                           aligned(shape->nodes * (int64_t)sizeof(real))};
  enum { PARTS = sizeof(sizes) / sizeof(sizes[0]) };
  int64_t total = 64 + s->at_once * (3 * list + 4 * row);
  for (int i = 0; i < PARTS; i++) total += sizes[i];
  s->memory = malloc((size_t)total);
  if (!s->memory) return 0;
  char *parts[PARTS], *next = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
  for (int i = 0; i < PARTS; i++) parts[i] = next, next += sizes[i];
  s->keys = parts[0], s->values = parts[1], s->grad_keys = parts[2], s->grad_values = parts[3];
  s->place = (int32_t *)parts[4], s->inverse = (real *)parts[5];
  for (query_t *q = s->query; q < s->query + s->at_once; q++) {
    q->offset = (uint32_t *)next, q->score = (real *)(next + list), q->grad_score = (real *)(next + 2 * list), next += 3 * list;
    q->unit = (vec *)next, q->query = (vec *)(next + row), q->grad_out = (vec *)(next + 2 * row);
    q->result = (vec *)(next + 3 * row), next += 4 * row;
  }
  for (int64_t j = 0; j < shape->nodes && shape->side; j++)
    s->place[j] = (int32_t)(j / shape->side * (2 * shape->side - 1) + j % shape->side);
  return 1;
}

INLINE real *row_of(const tensor_t *t, int64_t w, int64_t h, int64_t n) {
  return t->data + w * t->window + h * t->head + n * t->node;
}

/* Copies a row of `width` numbers into whole vectors, the rest zero. */
INLINE void load_row(vec *row, const real *source, int64_t width, int vectors) {
  row[vectors - 1] = (vec){0};
  memcpy(row, source, (size_t)width * sizeof(real));
}

static void pack(char *rows, const tensor_t *t, int64_t w, int64_t h, const shape_t *shape, int vectors) {
  for (int64_t n = 0; n < shape->nodes; n++)
    load_row((vec *)(rows + n * vectors * BYTES), row_of(t, w, h, n), shape->width, vectors);
}

/* As torch.nn.functional.normalize: shorter rows count as of this length. */
#define SHORTEST ((real)1e-12)

/* Brings a row to unit length; returns the factor. */
INLINE real normalize(vec *row, int vectors) {
  vec squares = {0};
  for (int b = 0; b < vectors; b++) squares += row[b] * row[b];
  const real total = sum(squares), length = sizeof(real) == 4 ? (real)sqrtf((float)total) : (real)sqrt((double)total);
  const real inverse = 1 / (length < SHORTEST ? SHORTEST : length);
  for (int b = 0; b < vectors; b++) row[b] *= inverse;
  return inverse;
}

/* The gradient of a row, from that of its unit vector; `inverse` is what normalize returned. */
INLINE void undo_normalize(vec *grad, const vec *unit, real inverse, int vectors) {
  vec products = {0};
  for (int b = 0; b < vectors; b++) products += grad[b] * unit[b];
  const real along = inverse < 1 / SHORTEST ? sum(products) : 0;
  for (int b = 0; b < vectors; b++) grad[b] = (grad[b] - along * unit[b]) * inverse;
}

static void pack_keys(const scratch_t *s, const tensor_t *k, int64_t w, int64_t h, const shape_t *shape) {
  pack(s->keys, k, w, h, shape, s->vectors);
  for (int64_t n = 0; n < shape->nodes && shape->cosine; n++)
    s->inverse[n] = normalize((vec *)(s->keys + n * s->vectors * BYTES), s->vectors);
}

static void unpack(const char *rows, const tensor_t *t, int64_t w, int64_t h, const shape_t *shape, int vectors) {
  for (int64_t n = 0; n < shape->nodes; n++)
    memcpy(row_of(t, w, h, n), rows + n * vectors * BYTES, (size_t)shape->width * sizeof(real));
}

/* Byte offsets of the neighbours' rows, and the biases as the first part of the scores. The list is filled up to whole vectors
 * with the first neighbour and the score -inf, that is weight 0. */
INLINE void start_list(const scratch_t *s, const query_t *q, const shape_t *shape, const int32_t *list, const real *bias) {
  const uint32_t row_bytes = (uint32_t)s->vectors * BYTES;
  const int64_t count = shape->neighbours;
  for (int64_t n = 0; n < count; n++) q->offset[n] = (uint32_t)list[n] * row_bytes;
  if (bias)
    for (int64_t n = 0; n < count; n++) q->score[n] = bias[-(int64_t)s->place[list[n]]];
  else
    memset(q->score, 0, (size_t)count * sizeof(real));
  for (int64_t n = count; n < s->padded; n++) q->offset[n] = q->offset[0], q->score[n] = -(real)INFINITY;
}

INLINE real largest(const real *score, int64_t padded) {
  vec largest = *(const vec *)score;
  for (int64_t n = LANES; n < padded; n += LANES) {
    ivec x = *(const ivec *)(score + n), above = (vec)x > largest;
    largest = (vec)((x & above) | ((ivec)largest & ~above));
  }
  real top = largest[0];
  for (int lane = 1; lane < LANES; lane++) top = largest[lane] > top ? largest[lane] : top;
  return top;
}

/* Scores become exp(score - top); returns their sum. */
INLINE real exponentials(real *score, real top, int64_t padded) {
  vec total = {0};
  for (int64_t n = 0; n < padded; n += LANES) {
    vec x = exp_nonpositive(*(vec *)(score + n) - top);
    *(vec *)(score + n) = x;
    total += x;
  }
  return sum(total);
}

/* Query before and after the scale, and what it was multiplied with before. */
INLINE void load_query(const scratch_t *s, query_t *q, const shape_t *shape, const real *source, real scale) {
  load_row(q->unit, source, shape->width, s->vectors);
  q->inverse = shape->cosine ? normalize(q->unit, s->vectors) : 1;
  for (int b = 0; b < s->vectors; b++) q->query[b] = q->unit[b] * scale;
}

INLINE const real *bias_of(const scratch_t *s, const shape_t *shape, const real *table, int64_t h, int64_t i) {
  const int64_t span = 2 * shape->side - 1;
  return table ? table + h * span * span + s->place[i] + (shape->side - 1) * (span + 1) : NULL;
}

/* A step of `count` queries from the first one on. */
#define EACH(q) for (query_t *q = s->query; q < s->query + count; q++)

/* Lists and weights (before the division by their total) of the queries from node `i` of a unit on. */
static void weigh(scratch_t *s, const shape_t *shape, const tensor_t *queries, const index_t *index, const real *table,
                  const real *scale, int64_t w, int64_t h, int64_t i, int count) {
  EACH(q) load_query(s, q, shape, row_of(queries, w, h, i + (q - s->query)), scale[h]);
  EACH(q) {
    const int64_t node = i + (q - s->query);
    start_list(s, q, shape, index->data + w * index->window + node * index->node, bias_of(s, shape, table, h, node));
  }
#define CALL(n) dots(n, q->query + b, s->keys + b * BYTES, q->offset, s->padded, q->score)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
  EACH(q) q->top = largest(q->score, s->padded);
  EACH(q) q->total = exponentials(q->score, q->top, s->padded);
}

static void forward_queries(scratch_t *s, const shape_t *shape, const tensor_t *out, int64_t w, int64_t h, int64_t i, int count) {
#define CALL(n) weighted_sum(n, q->score, s->values + b * BYTES, q->offset, s->padded, q->result + b)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
  EACH(q) {
    for (int b = 0; b < s->vectors; b++) q->result[b] /= q->total;
    memcpy(row_of(out, w, h, i + (q - s->query)), q->result, (size_t)shape->width * sizeof(real));
  }
}

/* Returns the gradient of the scale. `grad_table` is that of the head, or NULL. */
static real backward_queries(scratch_t *s, const shape_t *shape, const tensor_t *grad_out, const tensor_t *grad_q,
                             const index_t *index, real *grad_table, real scale, int64_t w, int64_t h, int64_t i, int count) {
  EACH(q) load_row(q->grad_out, row_of(grad_out, w, h, i + (q - s->query)), shape->width, s->vectors);
  EACH(q) memset(q->grad_score, 0, (size_t)s->padded * sizeof(real));
#define CALL(n) dots(n, q->grad_out + b, s->values + b * BYTES, q->offset, s->padded, q->grad_score)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
  EACH(q) {
    const real one_over_total = 1 / q->total;
    vec mean = {0};
    for (int64_t n = 0; n < s->padded; n += LANES) {
      vec *p = (vec *)(q->score + n);
      *p *= one_over_total;
      mean += *p * *(vec *)(q->grad_score + n);
    }
    q->mean = sum(mean);
  }
  EACH(q) for (int64_t n = 0; n < s->padded; n += LANES) {
    vec *grad = (vec *)(q->grad_score + n);
    *grad = *(vec *)(q->score + n) * (*grad - q->mean);
  }
  if (grad_table) EACH(q) {
    const int64_t node = i + (q - s->query);
    const int32_t *list = index->data + w * index->window + node * index->node;
    real *grad_bias = (real *)bias_of(s, shape, grad_table, h, node);
    for (int64_t n = 0; n < shape->neighbours; n++) grad_bias[-(int64_t)s->place[list[n]]] += q->grad_score[n];
  }
  /* One after the other for all queries: each goes over rows that the first-level cache holds, all of them together do not. */
#define CALL(n) weighted_sum(n, q->grad_score, s->keys + b * BYTES, q->offset, s->padded, q->result + b)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
#define CALL(n) add_to_rows(n, q->grad_score, q->query + b, s->grad_keys + b * BYTES, q->offset, shape->neighbours)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
#define CALL(n) add_to_rows(n, q->score, q->grad_out + b, s->grad_values + b * BYTES, q->offset, shape->neighbours)
  EACH(q) FOR_EACH_GROUP(s->vectors, b, CALL)
#undef CALL
  real grad_scale = 0;
  EACH(q) {
    vec along = {0};
    for (int b = 0; b < s->vectors; b++) along += q->result[b] * q->unit[b], q->result[b] *= scale;
    if (shape->cosine) undo_normalize(q->result, q->unit, q->inverse, s->vectors);
    memcpy(row_of(grad_q, w, h, i + (q - s->query)), q->result, (size_t)shape->width * sizeof(real));
    grad_scale += sum(along);
  }
  return grad_scale;
}

/* ---------------------------------------------------------------- entry points; both return 0, or 1 when out of memory */

int kgt_forward(const shape_t *shape, const tensor_t *q, const tensor_t *k, const tensor_t *v, const index_t *index,
                const real *table, const real *scale, const tensor_t *out) {
  const int64_t units = shape->windows * shape->heads;
  /* A few windows on many cores: several threads share a unit, each packing it for itself. */
  const int64_t wanted = (4 * shape->threads + units - 1) / units, most = (shape->nodes + 63) / 64;
  const int64_t blocks = units >= 4 * shape->threads ? 1 : wanted < most ? wanted : most;
  int failed = 0;
#pragma omp parallel num_threads(shape->threads) reduction(| : failed)
  {
    scratch_t s;
    int64_t packed = -1;
    const int ready = scratch_make(&s, shape, 0);
    failed = !ready;
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < units * blocks; item++) {
      if (!ready) continue;
      const int64_t unit = item / blocks, block = item % blocks, w = unit / shape->heads, h = unit % shape->heads;
      if (packed != unit) {
        pack_keys(&s, k, w, h, shape);
        pack(s.values, v, w, h, shape, s.vectors);
        packed = unit;
      }
      const int64_t end = (block + 1) * shape->nodes / blocks;
      for (int64_t i = block * shape->nodes / blocks; i < end; i += s.at_once) {
        const int count = (int)(end - i < s.at_once ? end - i : s.at_once);
        weigh(&s, shape, q, index, table, scale, w, h, i, count);
        forward_queries(&s, shape, out, w, h, i, count);
      }
    }
    if (ready) free(s.memory);
  }
  return failed;
}

/* grad_table: [groups, H, (2M-1)^2], NULL without a bias table, and grad_scale: [groups, H], zeroed by the caller, who adds the
 * groups up. */
int kgt_backward(const shape_t *shape, const tensor_t *q, const tensor_t *k, const tensor_t *v, const index_t *index,
                 const real *table, const real *scale, const tensor_t *grad_out, const tensor_t *grad_q,
                 const tensor_t *grad_k, const tensor_t *grad_v, real *grad_table, real *grad_scale, int64_t groups) {
  const int64_t span = 2 * shape->side - 1;
  int failed = 0;
#pragma omp parallel num_threads(shape->threads) reduction(| : failed)
  {
    scratch_t s;
    const int ready = scratch_make(&s, shape, 1);
    failed = !ready;
    /* A group of windows is worked through by one thread: the sum over its windows has one order. */
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < groups * shape->heads; item++) {
      if (!ready) continue;
      const int64_t group = item / shape->heads, h = item % shape->heads;
      real *grad_table_h = table ? grad_table + (group * shape->heads) * span * span : NULL;
      for (int64_t w = group * shape->windows / groups; w < (group + 1) * shape->windows / groups; w++) {
        const size_t rows = (size_t)(shape->nodes * s.vectors * BYTES);
        pack_keys(&s, k, w, h, shape);
        pack(s.values, v, w, h, shape, s.vectors);
        memset(s.grad_keys, 0, rows);
        memset(s.grad_values, 0, rows);
        for (int64_t i = 0; i < shape->nodes; i += s.at_once) {
          const int count = (int)(shape->nodes - i < s.at_once ? shape->nodes - i : s.at_once);
          weigh(&s, shape, q, index, table, scale, w, h, i, count);
          grad_scale[item] += backward_queries(&s, shape, grad_out, grad_q, index, grad_table_h, scale[h], w, h, i, count);
        }
        for (int64_t n = 0; n < shape->nodes && shape->cosine; n++) {
          const int64_t row = n * s.vectors * BYTES;
          undo_normalize((vec *)(s.grad_keys + row), (const vec *)(s.keys + row), s.inverse[n], s.vectors);
        }
        unpack(s.grad_keys, grad_k, w, h, shape, s.vectors);
        unpack(s.grad_values, grad_v, w, h, shape, s.vectors);
      }
    }
    if (ready) free(s.memory);
  }
  return failed;
}

/* ---------------------------------------------------------------- the neighbours of a node */

#ifdef KGT_DOUBLE
#define LOWEST INT64_MIN
#else
#define LOWEST INT32_MIN
#endif

/* Integers in the order of the numbers: -0 equals 0, NaN comes last. */
INLINE ivec ordered(vec x) {
  const ivec bits = (ivec)(x + (real)0), number = x == x;
  const ivec sorted = bits ^ ((bits >> (8 * sizeof(word) - 1)) & ~LOWEST);
  return (sorted & number) | ((LOWEST + 1) & ~number);
}

/* Keys of a row, its end filled up with something lower still. */
static void ordered_keys(const real *row, int64_t count, int64_t padded, word *key) {
  int64_t n = 0;
  for (; n + LANES <= count; n += LANES) {
    vec x;
    memcpy(&x, row + n, sizeof(x)); /* rows need not be aligned */
    *(ivec *)(key + n) = ordered(x);
  }
  if (n < count) {
    vec x = {0};
    memcpy(&x, row + n, (size_t)(count - n) * sizeof(real));
    *(ivec *)(key + n) = ordered(x);
  }
  for (n = count; n < padded; n++) key[n] = LOWEST;
}

/* Keys are filled up to a multiple of this. */
#define KEYS (4 * 16)

static int64_t count_from(const word *key, int64_t padded, word threshold) {
  ivec total[4] = {{0}};
  for (int64_t n = 0; n < padded; n += 4 * LANES)
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) total[part] -= *(const ivec *)(key + n + part * LANES) >= threshold;
  const ivec sum = (total[0] + total[1]) + (total[2] + total[3]);
  int64_t result = 0;
  for (int lane = 0; lane < LANES; lane++) result += sum[lane];
  return result;
}

/* The k largest of a row: the places in rising order; of equal numbers the first. `found` has room for padded + 1. The search
 * starts at `guess`, for speed alone, and returns where it ended: rows that follow each other have similar thresholds. */
static word select_row(const word *key, int64_t count, int64_t padded, int64_t k, word guess, int32_t *found) {
  /* At least k keys reach `low`, fewer than k reach `high`. */
  word low = LOWEST + 1, high = ~LOWEST, probe = guess;
  int64_t reach = count;
  uint64_t step = (uint64_t)1 << (MANTISSA - 5);
  int above = 0, below = 0;
  while (reach != k && (uint64_t)high - (uint64_t)low > 1) {
    if (probe <= low || probe >= high || (above && below))
      probe = (word)((uint64_t)low + ((uint64_t)high - (uint64_t)low) / 2);
    const int64_t reaching = count_from(key, padded, probe);
    if (reaching >= k)
      low = probe, reach = reaching, below = 1;
    else
      high = probe, above = 1;
    /* Away from the guess in growing steps until the threshold lies between two of them, then by halves. */
    probe = reaching >= k ? (word)((uint64_t)low + step) : (word)((uint64_t)high - step);
    step *= 4;
  }
  /* Past the last tie that has room only larger keys count; one comparison a key keeps the loop free of branches. */
  int64_t end_of_ties = padded, taken = 0;
  if (reach != k) {
    int64_t ties = k - count_from(key, padded, low + 1);
    for (end_of_ties = 0; ties > 0; end_of_ties++) ties -= key[end_of_ties] == low;
  }
  for (int64_t n = 0; n < end_of_ties; n++) found[taken] = (int32_t)n, taken += key[n] >= low;
  for (int64_t n = end_of_ties; n < padded; n++) found[taken] = (int32_t)n, taken += key[n] > low;
  return low;
}

/* The inner products of nodes are computed in tiles whose sums stay in registers: so many rows, and two vectors of columns. */
#if BYTES == 64 || defined(__aarch64__)
#define TILE_ROWS 8
#else
#define TILE_ROWS 6
#endif
#define TILE_COLUMNS (2 * LANES)
/* Rows of similarities that are held at once, a multiple of the above. */
#define BLOCK_ROWS (4 * TILE_ROWS)

/* Nodes [count, channels] as panels [channels, TILE_COLUMNS], the last one filled up with zeros. */
static void pack_panels(const real *nodes, int64_t count, int64_t channels, real *panels) {
  for (int64_t j = 0; j < count; j += TILE_COLUMNS)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t lane = 0; lane < TILE_COLUMNS; lane++)
        *panels++ = j + lane < count ? nodes[(j + lane) * channels + c] : 0;
}

/* Tile [TILE_ROWS, TILE_COLUMNS] of similarities, rows `pitch` apart. */
INLINE void similarity_tile(const real *const *row, const real *panel, int64_t channels, real *tile, int64_t pitch) {
  vec total[TILE_ROWS][2] = {0};
  for (int64_t c = 0; c < channels; c++) {
    const vec left = ((const vec *)panel)[2 * c], right = ((const vec *)panel)[2 * c + 1];
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++) total[r][0] += row[r][c] * left, total[r][1] += row[r][c] * right;
  }
  for (int r = 0; r < TILE_ROWS; r++) memcpy(tile + r * pitch, total[r], sizeof(total[r]));
}

/* index: [windows, count, k], the neighbours of each of the nodes [windows, count, channels]. */
int kgt_neighbours(const real *nodes, int64_t windows, int64_t count, int64_t channels, int64_t k, int32_t *index,
                   int64_t threads) {
  const int64_t padded = (count + KEYS - 1) / KEYS * KEYS, pitch = (count + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
  const int64_t blocks = (count + BLOCK_ROWS - 1) / BLOCK_ROWS;
  const int64_t sizes[] = {aligned(padded * (int64_t)sizeof(word)), aligned((padded + 1) * 4),
                           aligned(pitch * channels * (int64_t)sizeof(real)), aligned(BLOCK_ROWS * pitch * (int64_t)sizeof(real))};
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    char *memory = malloc((size_t)(sizes[0] + sizes[1] + sizes[2] + sizes[3] + 64));
    failed = !memory;
    char *next = (char *)(((uintptr_t)memory + 63) / 64 * 64);
    word *key = (word *)next;
    int32_t *places = (int32_t *)(next += sizes[0]);
    real *panels = (real *)(next += sizes[1]), *similarity = (real *)(next += sizes[2]);
    int64_t packed = -1;
    word guess = 0;
#pragma omp for schedule(static)
    for (int64_t item = 0; item < windows * blocks; item++) {
      if (!memory) continue;
      const int64_t w = item / blocks, first = item % blocks * BLOCK_ROWS;
      const int64_t rows = count - first < BLOCK_ROWS ? count - first : BLOCK_ROWS;
      const real *window = nodes + w * count * channels;
      if (packed != w) pack_panels(window, count, channels, panels), packed = w;
      for (int64_t j = 0; j < pitch; j += TILE_COLUMNS)
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
          const real *row[TILE_ROWS];
          /* Past the end the last row again, whose result is not read. */
          for (int r = 0; r < TILE_ROWS; r++) row[r] = window + (first + (i + r < rows ? i + r : rows - 1)) * channels;
          similarity_tile(row, panels + j * channels, channels, similarity + i * pitch + j, pitch);
        }
      for (int64_t i = 0; i < rows; i++) {
        ordered_keys(similarity + i * pitch, count, padded, key);
        guess = select_row(key, count, padded, k, guess, places);
        memcpy(index + ((w * count) + first + i) * k, places, (size_t)k * sizeof(int32_t));
      }
    }
    free(memory);
  }
  return failed;
}

/* ---------------------------------------------------------------- the gradients of the weights of a linear layer */

/* Rows that are packed at once; so many of a panel and of the gradients beside it stay in the first-level cache. */
#define PACKED_ROWS 256

/* Rows [count, columns], `pitch` apart, as panels [count, panel], the last one filled up with zeros. */
INLINE void pack_columns(const real *rows, int64_t count, int64_t columns, int64_t pitch, const int64_t panel, real *panels) {
  int64_t c = 0;
  for (; c + panel <= columns; c += panel)
    for (int64_t r = 0; r < count; r++, panels += panel) memcpy(panels, rows + r * pitch + c, (size_t)panel * sizeof(real));
  if (c == columns) return;
  memset(panels, 0, (size_t)(count * panel) * sizeof(real));
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = c; i < columns; i++) panels[r * panel + i - c] = rows[r * pitch + i];
}

/* sums [TILE_ROWS, TILE_COLUMNS] += left^T right, of panels [count, TILE_ROWS] and [count, TILE_COLUMNS]. */
INLINE void add_products(const real *left, const real *right, int64_t count, real *sums) {
  vec total[TILE_ROWS][2];
  memcpy(total, sums, sizeof(total));
  for (int64_t r = 0; r < count; r++) {
    const vec first = ((const vec *)right)[2 * r], second = ((const vec *)right)[2 * r + 1];
#pragma GCC unroll 8
    for (int t = 0; t < TILE_ROWS; t++)
      total[t][0] += left[r * TILE_ROWS + t] * first, total[t][1] += left[r * TILE_ROWS + t] * second;
  }
  memcpy(sums, total, sizeof(total));
}

/* grad_weight [outputs, inputs] = grad^T input and grad_bias [outputs] = the sums of grad [rows, outputs]; input is
 * [rows, inputs]. A thread has some of the outputs: every sum is in the order of the rows. */
int kgt_weight_gradients(const real *grad, const real *input, int64_t rows, int64_t outputs, int64_t inputs, real *grad_weight,
                         real *grad_bias, int64_t threads) {
  const int64_t tiles = (outputs + TILE_ROWS - 1) / TILE_ROWS, panels = (inputs + TILE_COLUMNS - 1) / TILE_COLUMNS;
  int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
  for (int64_t part = 0; part < threads; part++) {
    const int64_t first = part * tiles / threads, own = (part + 1) * tiles / threads - first;
    const int64_t start = first * TILE_ROWS, width = (outputs < start + own * TILE_ROWS ? outputs - start : own * TILE_ROWS);
    if (own == 0) continue;
    const int64_t sizes[] = {aligned(own * panels * TILE_ROWS * TILE_COLUMNS * (int64_t)sizeof(real)),
                             aligned(PACKED_ROWS * own * TILE_ROWS * (int64_t)sizeof(real)),
                             aligned(PACKED_ROWS * panels * TILE_COLUMNS * (int64_t)sizeof(real))};
    char *memory = malloc((size_t)(sizes[0] + sizes[1] + sizes[2] + 64));
    if (!memory) {
      failed = 1;
      continue;
    }
    char *next = (char *)(((uintptr_t)memory + 63) / 64 * 64);
    real *sums = (real *)next, *left = (real *)(next + sizes[0]), *right = (real *)(next + sizes[0] + sizes[1]);
    memset(sums, 0, (size_t)sizes[0]);
    memset(grad_bias + start, 0, (size_t)width * sizeof(real));
    for (int64_t r = 0; r < rows; r += PACKED_ROWS) {
      const int64_t count = rows - r < PACKED_ROWS ? rows - r : PACKED_ROWS;
      const real *block = grad + r * outputs + start;
      for (int64_t i = 0; i < count; i++)
        for (int64_t o = 0; o < width; o++) grad_bias[start + o] += block[i * outputs + o];
      pack_columns(block, count, width, outputs, TILE_ROWS, left);
      pack_columns(input + r * inputs, count, inputs, inputs, TILE_COLUMNS, right);
      for (int64_t p = 0; p < panels; p++)
        for (int64_t t = 0; t < own; t++)
          add_products(left + t * count * TILE_ROWS, right + p * count * TILE_COLUMNS, count,
                       sums + (p * own + t) * TILE_ROWS * TILE_COLUMNS);
    }
    for (int64_t o = 0; o < width; o++)
      for (int64_t p = 0; p < panels; p++) {
        const int64_t left_over = inputs - p * TILE_COLUMNS, taken = left_over < TILE_COLUMNS ? left_over : TILE_COLUMNS;
        memcpy(grad_weight + (start + o) * inputs + p * TILE_COLUMNS,
               sums + ((p * own + o / TILE_ROWS) * TILE_ROWS + o % TILE_ROWS) * TILE_COLUMNS, (size_t)taken * sizeof(real));
      }
    free(memory);
  }
  return failed;
}
