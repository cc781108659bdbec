/* SPDX-License-Identifier: Apache-2.0
 *
 * emulator: fibers, and who of a block runs next: a warp's go from one to the next by themselves, warp after
 * warp is the scheduler's. A host thread has its own fibers, so several may launch at the same time. Copies into
 * shared memory are held against who reads matrices there, whatever the order was. Switching saves what x86-64
 * has a callee save; AddressSanitizer is told of every switch. */
#include "emulator.h"

#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ADDRESS 1
#endif
#endif
#ifdef FIBER_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

__thread emulated emulated_now;

namespace {

enum { COPY = 16, MOST_COPIES = 64 };
enum { WARP_LANES = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP_LANES, LINE = 64 };
/* A stack is some lines longer than a power of two, or all stacks' tops would want the same lines of a cache. */
enum { STACK = (128 << 10) + 9 * LINE, SHARED_BYTES = 48 << 10, SHARED_GAP = 64 };

/* Why a fiber leaves off */
enum reason { FOR_WARP, FOR_BLOCK, ENDED };

struct fiber {
    void *stack_pointer;
    char *stack;
    void *fake_stack;     /* AddressSanitizer's */
    size_t shared_at;     /* what it has declared so far */
    int copies;           /* that it has begun */
    int gifts;            /* how often it has given to its warp */
    uint64_t given[2][6]; /* the last two times: who goes on gives again before others have looked */
};

struct copies {
    void *to[MOST_COPIES];
    const void *from[MOST_COPIES]; /* NULL: zeros */
};

/* Whether copies race: of 16 bytes of shared memory, the turn (from one barrier to the next) in which
 * they came, or a matrix was read there and by which warp. Turns begin at 1. */
struct piece {
    bool awaited;
    int came, read, reader; /* reader: MANY for several */
};
enum { MANY = -1 };

struct crew {
    fiber fibers[MOST_THREADS];
    copies begun[MOST_THREADS];
    uint32_t alive[MOST_WARPS]; /* a bit a lane */
    int warp;             /* which runs; of its lanes, whose turn is to come, and who waits for what: */
    uint32_t ready, for_warp, for_block;
    fiber *current;
    void *scheduler;      /* its stack pointer */
    void *fake_stack;
    bool is_scheduled;    /* the fiber that begins or goes on does so from the scheduler */
    const void *bottom;   /* of the scheduler's stack */
    size_t size;
    void (*body)(void *);
    void *context;
    char *shared;
    char *stacks;
    size_t declared;      /* of shared memory, by the block's first thread to come so far */
    int turn;
    piece pieces[SHARED_BYTES / COPY];

    crew();
    ~crew();
};

crew::crew() : fibers(), begun(), turn(), pieces()
{
    size_t all = (size_t)STACK * MOST_THREADS;
    stacks = (char *)mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared = (char *)aligned_alloc(256, SHARED_BYTES);
    if (stacks == MAP_FAILED || !shared) abort();
    for (int i = 0; i < MOST_THREADS; i++) fibers[i].stack = stacks + (size_t)i * STACK;
}

crew::~crew()
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(shared, SHARED_BYTES);
#endif
    munmap(stacks, (size_t)STACK * MOST_THREADS);
    free(shared);
}

__thread crew *crew_now;

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "emulator: block (%d, %d, %d), thread %d: %s\n", emulated_now.block[0], emulated_now.block[1],
            emulated_now.block[2], emulated_now.thread, what);
    abort();
}

} // namespace

/* Saves the callee's registers and the stack pointer in *from, goes on at `to`. */
extern "C" void emulated_switch(void **from, void *to);
__asm__(".text\n"
        ".globl emulated_switch\n"
        ".type emulated_switch, @function\n"
        "emulated_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size emulated_switch, .-emulated_switch\n");

namespace {

/* The fiber has come, for the first time or again. */
void arrived(crew *c, void *fake_stack)
{
#ifdef FIBER_ADDRESS
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (c->is_scheduled) c->bottom = bottom, c->size = size;
#endif
    (void)fake_stack;
    c->is_scheduled = false;
}

/* On to a lane of the warp that runs, from `from`, whose stack pointer and AddressSanitizer's stack are kept there. */
void go_to(crew *c, int lane, void **from, void **fake_stack)
{
    int thread = c->warp * WARP_LANES + lane;
    fiber *f = &c->fibers[thread];
    c->current = f;
    emulated_now.thread = thread;
#ifdef FIBER_ADDRESS
    __sanitizer_start_switch_fiber(fake_stack, f->stack, STACK);
#endif
    (void)fake_stack;
    emulated_switch(from, f->stack_pointer);
}

/* The fiber that runs leaves off: the next of its warp goes on, or, where all its lanes have ended or wait for the
 * block, the scheduler. */
void leave(reason why)
{
    crew *c = crew_now;
    fiber *f = c->current;
    uint32_t lane = 1u << emulated_now.thread % WARP_LANES;
    c->ready &= ~lane;
    if (why == FOR_WARP) c->for_warp |= lane;
    if (why == FOR_BLOCK) c->for_block |= lane;
    if (why == ENDED) c->alive[c->warp] &= ~lane;
    if (!c->ready && c->for_warp) {
        if (c->for_block) fail("a lane waits for a barrier while others of its warp shuffle");
        c->ready = c->for_warp;
        c->for_warp = 0;
    }
    if (c->ready & lane && !(c->ready & (lane - 1))) return; /* nobody else's turn */
    void **fake_stack = why == ENDED ? NULL : &f->fake_stack;
    if (c->ready) {
        go_to(c, __builtin_ctz(c->ready), &f->stack_pointer, fake_stack);
    } else {
#ifdef FIBER_ADDRESS
        __sanitizer_start_switch_fiber(fake_stack, c->bottom, c->size);
#endif
        emulated_switch(&f->stack_pointer, c->scheduler);
    }
    arrived(c, f->fake_stack);
}

void fiber_main()
{
    crew *c = crew_now;
    arrived(c, NULL);
    c->body(c->context);
    if (c->current->copies) fail("a thread ends that has not waited for its copies");
    leave(ENDED);
    abort();
}

void begin(fiber *f)
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(f->stack, STACK); /* of frames that were left for good */
#endif
    void **top = (void **)(f->stack + STACK);
    *--top = NULL;                    /* where fiber_main would return to; the stack is aligned as after a call */
    *--top = (void *)&fiber_main;
    for (int i = 0; i < 6; i++) *--top = NULL;
    f->stack_pointer = top;
    f->shared_at = 0;
    f->copies = f->gifts = 0;
}

/* Runs a warp until all its threads have ended or wait for the block. */
void run_warp(crew *c, int warp)
{
    c->warp = warp;
    c->ready = c->alive[warp];
    c->for_warp = c->for_block = 0;
    if (!c->ready) return;
    c->is_scheduled = true;
    go_to(c, __builtin_ctz(c->ready), &c->scheduler, &c->fake_stack);
#ifdef FIBER_ADDRESS
    __sanitizer_finish_switch_fiber(c->fake_stack, NULL, NULL);
#endif
}

/* Nobody has declared any of it. */
void shared_begin(crew *c)
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(c->shared, SHARED_BYTES);
#endif
    memset(c->shared, 0xff, c->declared); /* as far as the block before it went */
#ifdef FIBER_ADDRESS
    __asan_poison_memory_region(c->shared, SHARED_BYTES);
#endif
}

void run_block(crew *c, int threads)
{
    shared_begin(c);
    c->turn = 1;
    memset(c->pieces, 0, sizeof c->pieces);
    int warps = (threads + WARP_LANES - 1) / WARP_LANES;
    for (int i = 0; i < threads; i++) begin(&c->fibers[i]);
    for (int w = 0; w < warps; w++) {
        int lanes = threads - w * WARP_LANES;
        c->alive[w] = lanes < WARP_LANES ? (1u << lanes) - 1 : UINT32_MAX;
    }
    for (uint32_t alive = 1; alive; c->turn++) { /* who has ended counts as come to the barrier */
        alive = 0;
        for (int w = 0; w < warps; w++) {
            run_warp(c, w);
            alive |= c->alive[w];
        }
    }
}

} // namespace

void emulated_launch(int x, int y, int z, int threads, void (*body)(void *), void *context)
{
    static thread_local std::unique_ptr<crew> own(new crew()); /* too large for a thread's own storage */
    crew *c = crew_now = own.get();
    if (x < 1 || y < 1 || z < 1 || y > 65535 || z > 65535 || threads < 1 || threads > MOST_THREADS)
        fail("a grid or a block that no card has");
    c->body = body;
    c->context = context;
    c->declared = SHARED_BYTES;
    emulated_now = emulated{0, threads, {0, 0, 0}, {x, y, z}};
    for (int k = 0; k < z; k++)
        for (int j = 0; j < y; j++)
            for (int i = 0; i < x; i++) {
                emulated_now.block[0] = i, emulated_now.block[1] = j, emulated_now.block[2] = k;
                run_block(c, threads);
                if (c->declared == SHARED_BYTES) {
                    c->declared = 0;
                    for (int t = 0; t < threads; t++)
                        if (c->fibers[t].shared_at > c->declared) c->declared = c->fibers[t].shared_at;
                }
            }
}

void emulated_barrier() { leave(FOR_BLOCK); }

void emulated_give(const void *mine, size_t size)
{
    fiber *f = crew_now->current;
    memcpy(f->given[++f->gifts % 2], mine, size);
    leave(FOR_WARP); /* until all have given */
}

const void *emulated_given(int lane)
{
    const crew *c = crew_now;
    int thread = c->warp * WARP_LANES + lane, gift = c->current->gifts;
    if (thread >= emulated_now.threads || c->fibers[thread].gifts < gift) fail("a lane that is no more is asked");
    return c->fibers[thread].given[gift % 2];
}

void emulated_warp_barrier() { leave(FOR_WARP); }

void emulated_shuffle(void *value, size_t size, int mask)
{
    emulated_give(value, size);
    memcpy(value, emulated_given((emulated_now.thread ^ mask) & (WARP_LANES - 1)), size);
}

static piece *piece_at(const void *at)
{
    crew *c = crew_now;
    size_t i = (size_t)((const char *)at - c->shared) / COPY;
    if ((const char *)at < c->shared || i >= SHARED_BYTES / COPY) fail("not a place of shared memory");
    return &c->pieces[i];
}

void emulated_copy(void *to, const void *from, bool inside)
{
    fiber *f = crew_now->current;
    if ((uintptr_t)to % COPY || (inside && (uintptr_t)from % COPY)) fail("a copy of what is not aligned");
    if (f->copies == MOST_COPIES) fail("more copies begun than the emulator keeps");
    piece *p = piece_at(to);
    if (p->read == crew_now->turn && p->reader != emulated_now.thread / WARP_LANES)
        fail("a copy goes to where another warp may still read a matrix");
    p->awaited = true;
    memset(to, 0xff, COPY); /* who still reads what was there sees it */
    copies *begun = &crew_now->begun[emulated_now.thread];
    begun->to[f->copies] = to;
    begun->from[f->copies++] = inside ? from : NULL;
}

void emulated_copies_wait()
{
    fiber *f = crew_now->current;
    const copies *begun = &crew_now->begun[emulated_now.thread];
    for (int i = 0; i < f->copies; i++) {
        if (begun->from[i])
            memcpy(begun->to[i], begun->from[i], COPY);
        else
            memset(begun->to[i], 0, COPY);
        piece *p = piece_at(begun->to[i]);
        p->awaited = false;
        p->came = crew_now->turn;
    }
    f->copies = 0;
}

/* The half of a pair */
static float half_of(uint32_t pair, int which, bool bf16)
{
    uint16_t bits = (uint16_t)(which ? pair >> 16 : pair);
    return bf16 ? bf16_bits_value(bits) : half_bits_value(bits);
}

/* What a lane has of the product's operands, widened: its four pairs of a, its two of b. */
struct operands {
    float a[4][2], b[2][2];
};

void emulated_product_of(float *c, const uint32_t *a, uint32_t b0, uint32_t b1, bool bf16)
{
    operands mine;
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 4; i++) mine.a[i][h] = half_of(a[i], h, bf16);
        mine.b[0][h] = half_of(b0, h, bf16), mine.b[1][h] = half_of(b1, h, bf16);
    }
    int g = emulated_now.thread % WARP_LANES / 4, t = emulated_now.thread % 4;
    emulated_give(&mine, sizeof mine);
    const operands *left[4], *right[2][4]; /* of a row; of two columns */
    for (int k = 0; k < 4; k++) {
        left[k] = (const operands *)emulated_given(4 * g + k);
        for (int j = 0; j < 2; j++) right[j][k] = (const operands *)emulated_given(4 * (2 * t + j) + k);
    }
    for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++)
            sum += left[k % 8 / 2]->a[i / 2 + k / 8 * 2][k % 2] * right[i % 2][k % 8 / 2]->b[k / 8][k % 2];
        c[i] += sum;
    }
}

void emulated_matrix_load(uint32_t *out, const uint16_t *row, bool turned)
{
    int g = emulated_now.thread % WARP_LANES / 4, t = emulated_now.thread % 4;
    if ((uintptr_t)row % COPY) fail("a matrix's row is not aligned");
    piece *p = piece_at(row);
    int warp = emulated_now.thread / WARP_LANES;
    if (p->awaited || p->came == crew_now->turn) fail("a matrix is read whose copy has no barrier behind it");
    p->reader = p->read == crew_now->turn && p->reader != warp ? MANY : warp;
    p->read = crew_now->turn;
    emulated_give(&row, sizeof row);
    for (int i = 0; i < 4; i++) {
        uint32_t pair[2];
        for (int k = 0; k < 2; k++) {
            int r = turned ? 2 * t + k : g, column = turned ? g : 2 * t + k;
            pair[k] = (*(const uint16_t *const *)emulated_given(8 * i + r))[column];
        }
        out[i] = pair[0] | pair[1] << 16;
    }
    emulated_warp_barrier(); /* all have read: who goes on may write there */
}

void *emulated_shared(size_t size)
{
    fiber *f = crew_now->current;
    void *at = crew_now->shared + f->shared_at;
    f->shared_at += size / SHARED_GAP * SHARED_GAP + SHARED_GAP; /* at least a byte between two */
    if (f->shared_at > SHARED_BYTES) fail("more shared memory than a block can declare");
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(at, size);
#endif
    return at;
}
