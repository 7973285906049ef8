/* Operators of training and evaluation on a CPU, float32: BatchNorm (Ioffe & Szegedy 2015), a max-pool, transposed weights,
   momentum, Adam (Kingma & Ba 2015). compiling.py compiles this file, compiled_layers.py and training/optimizers.py call it.

   The order in which a channel's numbers of BatchNorm are added up is the same on every CPU and for any number of threads: within an
   image 16 sums side by side, which vectors of any width can hold, then in double precision. */

#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK (1 << 21) /* bytes of one tensor: a thread reads as many channels again and again, best from its cache */
#define MOST_HELPERS 15
#define FEW (1 << 16) /* numbers that one thread has updated before another one would be awake */

/* compiled twice, the loader takes the one for the machine; "arch=haswell" would be taken on a Haswell only */
#if defined __x86_64__ && !defined ONE_CPU
#define FOR_EACH_CPU __attribute__((target_clones("fma", "default")))
#else
#define FOR_EACH_CPU
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
#define EIGHT(x) (*(const Eight *)(x))

typedef struct Call { /* a tensor's channels, and what is computed of each */
    void (*work)(const struct Call *, int64_t from, int64_t to);
    int64_t images, channels, pixels, block;
    const float *x, *dy, *gamma, *beta, *shortcut; /* shortcut: what is added to y, or none */
    float eps, part; /* part: of the batch in the running mean and variance */
    int relu, fixed; /* whether y ends with ReLU; whether it takes the running mean and variance, as in evaluation */
    float *running_mean, *running_variance, *mean, *deviation, *y, *dx, *dgamma, *dbeta, *dshortcut;
    atomic_llong next; /* the first channel that no thread has taken */
} Call;

INLINE double total(const Eight *a, const Eight *b) {
    double sum = 0;
    for (int i = 0; i < 8; i++) sum += (*a)[i] + (*b)[i];
    return sum;
}

/* The sum of n numbers. */
INLINE double sum_of(const float *x, int64_t n) {
    Eight a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) a += EIGHT(x + i), b += EIGHT(x + i + 8);
    double sum = total(&a, &b);
    for (; i < n; i++) sum += x[i];
    return sum;
}

/* The sum of (x - mean) (x - mean). */
INLINE double squares_of(const float *x, float mean, int64_t n) {
    Eight a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const Eight u = EIGHT(x + i) - mean, v = EIGHT(x + i + 8) - mean;
        a += u * u, b += v * v;
    }
    double sum = total(&a, &b);
    for (; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

/* The sum of dy (x - mean). */
INLINE double products_of(const float *dy, const float *x, float mean, int64_t n) {
    Eight a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        a += EIGHT(dy + i) * (EIGHT(x + i) - mean);
        b += EIGHT(dy + i + 8) * (EIGHT(x + i + 8) - mean);
    }
    double sum = total(&a, &b);
    for (; i < n; i++) sum += dy[i] * (x[i] - mean);
    return sum;
}

/* The batch's mean and deviation, of which the running ones take a part. */
INLINE void measure(const Call *a, int64_t from, int64_t to) {
    const double count = (double)a->images * a->pixels;
    double sums[to - from], squares[to - from];
    for (int64_t c = from; c < to; c++) sums[c - from] = squares[c - from] = 0;
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t c = from; c < to; c++)
            sums[c - from] += sum_of(a->x + (n * a->channels + c) * a->pixels, a->pixels);
    for (int64_t c = from; c < to; c++) a->mean[c] = sums[c - from] / count;
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t c = from; c < to; c++)
            squares[c - from] += squares_of(a->x + (n * a->channels + c) * a->pixels, a->mean[c], a->pixels);
    for (int64_t c = from; c < to; c++) {
        const double variance = squares[c - from] / count, unbiased = squares[c - from] / (count > 1 ? count - 1 : 1);
        a->deviation[c] = sqrt(variance + a->eps);
        a->running_mean[c] += a->part * (a->mean[c] - a->running_mean[c]);
        a->running_variance[c] += a->part * (unbiased - a->running_variance[c]);
    }
}

/* y = (x - mean) / deviation * gamma + beta, and the shortcut and ReLU. Channel by channel within an image, as they are in
   memory. */
FOR_EACH_CPU static void forward(const Call *a, int64_t from, int64_t to) {
    if (a->fixed)
        for (int64_t c = from; c < to; c++)
            a->mean[c] = a->running_mean[c], a->deviation[c] = sqrt((double)a->running_variance[c] + a->eps);
    else
        measure(a, from, to);
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t c = from; c < to; c++) {
            const int64_t at = (n * a->channels + c) * a->pixels;
            const float *x = a->x + at, mean = a->mean[c], scale = a->gamma[c] / a->deviation[c], beta = a->beta[c];
            const float *shortcut = a->shortcut ? a->shortcut + at : NULL;
            float *y = a->y + at;
            for (int64_t i = 0; i < a->pixels; i++) {
                float z = (x[i] - mean) * scale + beta;
                if (shortcut) z += shortcut[i];
                y[i] = a->relu && z < 0 ? 0 : z;
            }
        }
}

/* dbeta = sum of dy; dgamma = sum of dy (x - mean) / deviation;
   dx = gamma / deviation (dy - mean of dy - (x - mean) / deviation * dgamma / count),
   or, if mean and deviation are fixed, gamma / deviation dy. With ReLU dy is 0 where y is; that is the shortcut's gradient, too. */
FOR_EACH_CPU static void backward(const Call *a, int64_t from, int64_t to) {
    const double count = (double)a->images * a->pixels;
    double sums[to - from], products[to - from];
    for (int64_t c = from; c < to; c++) sums[c - from] = products[c - from] = 0;
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t c = from; c < to; c++) {
            const int64_t at = (n * a->channels + c) * a->pixels;
            const float *dy = a->dy + at;
            if (a->relu) {
                const float *y = a->y + at;
                float *passed = a->dshortcut + at;
                for (int64_t i = 0; i < a->pixels; i++) passed[i] = y[i] > 0 ? dy[i] : 0;
                dy = passed;
            }
            sums[c - from] += sum_of(dy, a->pixels);
            products[c - from] += products_of(dy, a->x + at, a->mean[c], a->pixels);
        }
    for (int64_t c = from; c < to; c++) {
        a->dbeta[c] = sums[c - from];
        a->dgamma[c] = products[c - from] / a->deviation[c];
    }
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t c = from; c < to; c++) {
            const int64_t at = (n * a->channels + c) * a->pixels;
            const float *x = a->x + at, *dy = (a->relu ? a->dshortcut : a->dy) + at;
            const float mean = a->mean[c], deviation = a->deviation[c], scale = a->gamma[c] / deviation;
            const float of_dy = a->fixed ? 0 : a->dbeta[c] / count, of_x = a->fixed ? 0 : a->dgamma[c] / count / deviation;
            float *dx = a->dx + at;
            for (int64_t i = 0; i < a->pixels; i++) dx[i] = (dy[i] - of_dy - (x[i] - mean) * of_x) * scale;
        }
}

/* --- max-pool 3x3 of stride 2 with padding: the channels of all images, one by one --- */

typedef struct Pool {
    Call call;
    int64_t rows, columns, out_rows, out_columns, top, left; /* rows and columns of padding before the first pixel */
} Pool;

/* The larger one, the first of equal ones; what is not a number stays. */
INLINE float larger(float a, float b) { return a >= b || a != a ? a : b; }

FOR_EACH_CPU static void pool(const Call *call, int64_t from, int64_t to) {
    const Pool *p = (const Pool *)call;
    const int64_t columns = p->columns, width = 2 * p->out_columns + 1; /* of a row with its padding */
    float most[width]; /* of the rows of a window, column by column */
    for (int64_t i = 0; i < width; i++) most[i] = -INFINITY;
    for (int64_t c = from; c < to; c++)
        for (int64_t i = 0; i < p->out_rows; i++) {
            const int64_t start = 2 * i - p->top, first = start < 0 ? 0 : start;
            const int64_t end = start + 3 < p->rows ? start + 3 : p->rows;
            const float *x = call->x + (c * p->rows + first) * columns;
            float *middle = most + p->left, *y = call->y + (c * p->out_rows + i) * p->out_columns;
            for (int64_t j = 0; j < columns; j++) middle[j] = x[j];
            for (int64_t row = first + 1; row < end; row++) {
                x += columns;
                for (int64_t j = 0; j < columns; j++) middle[j] = larger(middle[j], x[j]);
            }
            for (int64_t j = 0; j < p->out_columns; j++)
                y[j] = larger(larger(most[2 * j], most[2 * j + 1]), most[2 * j + 2]);
        }
}

/* The gradient of each window goes to the first of its largest pixels. */
FOR_EACH_CPU static void pool_backward(const Call *call, int64_t from, int64_t to) {
    const Pool *p = (const Pool *)call;
    const int64_t columns = p->columns;
    for (int64_t c = from; c < to; c++) {
        const float *x = call->x + c * p->rows * columns, *dy = call->dy + c * p->out_rows * p->out_columns;
        float *dx = call->dx + c * p->rows * columns;
        for (int64_t i = 0; i < p->rows * columns; i++) dx[i] = 0;
        for (int64_t i = 0; i < p->out_rows; i++)
            for (int64_t j = 0; j < p->out_columns; j++) {
                const int64_t top = 2 * i - p->top, left = 2 * j - p->left;
                const int64_t first = left < 0 ? 0 : left, end = left + 3 < columns ? left + 3 : columns;
                int64_t best = (top < 0 ? 0 : top) * columns + first;
                for (int64_t row = top < 0 ? 0 : top; row < top + 3 && row < p->rows; row++)
                    for (int64_t at = row * columns + first; at < row * columns + end; at++)
                        best = x[best] >= x[at] || x[best] != x[best] ? best : at;
                dx[best] += dy[i * p->out_columns + j];
            }
    }
}

/* --- a matrix the other way round, in squares that fit into a cache --- */

#define SIDE 32

typedef struct Turn {
    Call call; /* its channels are the matrix's columns, in strips of SIDE */
    int64_t rows, columns;
} Turn;

FOR_EACH_CPU static void turn_strips(const Call *call, int64_t from, int64_t to) {
    const int64_t rows = ((const Turn *)call)->rows, columns = ((const Turn *)call)->columns;
    for (int64_t strip = from; strip < to; strip++)
        for (int64_t row = 0; row < rows; row += SIDE)
            for (int64_t j = strip * SIDE; j < columns && j < (strip + 1) * SIDE; j++)
                for (int64_t i = row; i < rows && i < row + SIDE; i++)
                    call->y[j * rows + i] = call->x[i * columns + j];
}

/* --- optimizers: weight decay and the update in one pass over the weights, rounded as MindSpore's operators do --- */

typedef struct Update {
    Call call; /* its channels are the weights, one by one */
    float *w, *m, *v; /* weights, mean gradient, mean square */
    const float *g;
    float rate, decay, momentum, part1, part2, eps; /* part1, part2: 1 - beta1, 1 - beta2 */
} Update;

FOR_EACH_CPU static void by_momentum(const Call *call, int64_t from, int64_t to) {
    const Update *u = (const Update *)call;
    const float *g = u->g, rate = u->rate, decay = u->decay, momentum = u->momentum;
    float *restrict w = u->w, *restrict m = u->m;
    for (int64_t i = from; i < to; i++) {
        m[i] = m[i] * momentum + (g[i] + w[i] * decay);
        w[i] -= m[i] * rate;
    }
}

FOR_EACH_CPU static void by_adam(const Call *call, int64_t from, int64_t to) {
    const Update *u = (const Update *)call;
    const float *g = u->g, rate = u->rate, decay = u->decay, part1 = u->part1, part2 = u->part2, eps = u->eps;
    float *restrict w = u->w, *restrict m = u->m, *restrict v = u->v;
    for (int64_t i = from; i < to; i++) {
        const float d = g[i] + w[i] * decay;
        m[i] = fmaf(d - m[i], part1, m[i]);
        v[i] = fmaf(fmaf(d, d, -v[i]), part2, v[i]);
    }
    const int64_t end = call->channels - call->channels % 8; /* the last ones MindSpore computes in double precision */
    for (int64_t i = from; i < to && i < end; i++) w[i] -= rate * m[i] / (sqrtf(v[i]) + eps);
    for (int64_t i = from > end ? from : end; i < to; i++) w[i] -= rate * m[i] / (sqrt(v[i]) + eps);
}

/* --- threads: helpers sleep between calls, and in each take blocks of channels beside the calling thread --- */

static Call *current;
static atomic_int turn, busy; /* number of the call; helpers that have not finished it */
static int helpers = -1;
static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;

static void take_blocks(Call *a) {
    for (;;) {
        const int64_t from = atomic_fetch_add(&a->next, a->block), to = from + a->block;
        if (from >= a->channels) return;
        a->work(a, from, to < a->channels ? to : a->channels);
    }
}

static void *help(void *nothing) {
    for (int seen = 0;; seen++) {
        while (atomic_load(&turn) == seen) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        take_blocks(current);
        atomic_fetch_sub(&busy, 1);
    }
    return nothing;
}

static void forget_helpers(void) { helpers = 0; } /* a forked process has none */

static void start_helpers(int wanted) {
    pthread_t thread;
    for (helpers = 0; helpers < wanted && helpers < MOST_HELPERS; helpers++)
        if (pthread_create(&thread, NULL, help, NULL)) break;
    pthread_atfork(NULL, NULL, forget_helpers);
}

static int run(Call *a, int threads) {
    const int64_t fit = BLOCK / (a->images * a->pixels * (int64_t)sizeof(float)), share = (a->channels - 1) / threads + 1;
    a->block = fit < 1 ? 1 : fit < share ? fit : share;
    if (pthread_mutex_trylock(&one_call)) { /* another call has the helpers */
        take_blocks(a);
        return 0;
    }
    if (helpers < 0) start_helpers(threads - 1);
    current = a;
    atomic_store(&busy, helpers);
    atomic_fetch_add(&turn, 1);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, helpers, NULL, NULL, 0);
    take_blocks(a);
    while (atomic_load(&busy)) sched_yield();
    pthread_mutex_unlock(&one_call);
    return 0;
}

/* --- MindSpore calls these: pointers, numbers of dimensions and shapes of inputs, then of outputs --- */

/* inputs x, gamma, beta, running mean and variance, settings, and, if it is added, the shortcut; outputs y, mean, deviation */
int batch_norm(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *settings = at[5]; /* eps, part, threads, relu, fixed */
    void **out = at + count - 3;
    Call a = {.work = forward, .images = shapes[0][0], .channels = shapes[0][1], .pixels = shapes[0][2] * shapes[0][3]};
    a.x = at[0], a.gamma = at[1], a.beta = at[2], a.running_mean = at[3], a.running_variance = at[4];
    a.eps = settings[0], a.part = settings[1], a.relu = settings[3], a.fixed = settings[4];
    a.shortcut = count > 9 ? at[6] : NULL;
    a.y = out[0], a.mean = out[1], a.deviation = out[2];
    return run(&a, settings[2]);
}

/* inputs x, dy, gamma, mean, deviation, settings, y; outputs dx, dgamma, dbeta, and the shortcut's gradient */
int batch_norm_gradient(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *settings = at[5];
    Call a = {.work = backward, .images = shapes[0][0], .channels = shapes[0][1], .pixels = shapes[0][2] * shapes[0][3]};
    a.x = at[0], a.dy = at[1], a.gamma = at[2], a.mean = at[3], a.deviation = at[4], a.y = at[6];
    a.relu = settings[3], a.fixed = settings[4];
    a.dx = at[7], a.dgamma = at[8], a.dbeta = at[9];
    a.dshortcut = count > 10 ? at[10] : at[7]; /* dx is written later */
    return run(&a, settings[2]);
}

/* MindSpore takes operators of one name for the same one, whatever their inputs */
int batch_norm_add(int, void **, int *, int64_t **, const char **, void *, void *) __attribute__((alias("batch_norm")));
int batch_norm_add_gradient(int, void **, int *, int64_t **, const char **, void *, void *)
    __attribute__((alias("batch_norm_gradient")));

static Pool pool_of(const int64_t *large, const int64_t *small, const float *symmetric) {
    Pool p = {.rows = large[2], .columns = large[3], .out_rows = small[2], .out_columns = small[3]};
    p.call.images = 1, p.call.channels = large[0] * large[1], p.call.pixels = large[2] * large[3];
    p.top = *symmetric ? 1 : (2 * p.out_rows + 1 - p.rows) / 2; /* otherwise as little as fits, more of it at the end */
    p.left = *symmetric ? 1 : (2 * p.out_columns + 1 - p.columns) / 2;
    return p;
}

int max_pool(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *settings = at[1]; /* symmetric, threads */
    Pool p = pool_of(shapes[0], shapes[2], settings);
    p.call.work = pool, p.call.x = at[0], p.call.y = at[2];
    return run(&p.call, settings[1]);
}

int max_pool_gradient(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *settings = at[2];
    Pool p = pool_of(shapes[0], shapes[1], settings);
    p.call.work = pool_backward, p.call.x = at[0], p.call.dy = at[1], p.call.dx = at[3];
    return run(&p.call, settings[1]);
}

int transpose(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *threads = at[1];
    Turn t = {.rows = shapes[0][0], .columns = shapes[0][1]};
    t.call.work = turn_strips, t.call.x = at[0], t.call.y = at[2];
    t.call.images = 1, t.call.channels = (t.columns + SIDE - 1) / SIDE, t.call.pixels = SIDE * t.rows;
    return run(&t.call, *threads);
}

static int update(Update *u, int64_t weights, int threads) {
    u->call.images = u->call.pixels = 1, u->call.channels = weights;
    if (weights >= FEW) return run(&u->call, threads);
    u->call.work(&u->call, 0, weights);
    return 0;
}

static int64_t numbers(const int64_t *shape, int dimensions) {
    int64_t product = 1;
    for (int i = 0; i < dimensions; i++) product *= shape[i];
    return product;
}

int momentum(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *rate = at[3], *settings = at[4]; /* decay, threads, momentum */
    Update u = {.call.work = by_momentum, .w = at[0], .m = at[1], .g = at[2], .rate = *rate};
    u.decay = settings[0], u.momentum = settings[2];
    *(float *)at[5] = 1;
    return update(&u, numbers(shapes[0], ndims[0]), settings[1]);
}

int adam(int count, void **at, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra) {
    const float *rate = at[4], *power1 = at[5], *power2 = at[6], *settings = at[7]; /* decay, threads, betas, eps */
    Update u = {.call.work = by_adam, .w = at[0], .m = at[1], .v = at[2], .g = at[3]};
    u.rate = *rate * sqrtf(1 - *power2) / (1 - *power1), u.decay = settings[0];
    u.part1 = 1 - settings[2], u.part2 = 1 - settings[3], u.eps = settings[4];
    *(float *)at[8] = 1;
    return update(&u, numbers(shapes[0], ndims[0]), settings[1]);
}
