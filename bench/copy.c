// The copies that conversions are measured beside. They read every shard of SRC and write WRITE
// bytes in total into the new directory DST, with each shard's share according to its size, and
// fsync.
//
//   copy naive SRC DST WRITE    one thread, 16 MiB blocks: read, write, in turn
//   copy paced SRC DST WRITE    threads that read and write concurrently; writeback starts after
//                               each block, and beyond 64 MiB in flight for a shard the oldest is
//                               awaited and dropped from the page cache. Only paced on Linux
//   copy direct SRC DST WRITE   the same, but written around the page cache (O_DIRECT). Linux only
//   copy memcpy BYTES           prints the GB/s, read and written, of the C library's memcpy: the
//                               median of two seconds, as metalcast bench measures it
//   copy touch BYTES            maps and touches memory: a virtual machine may have returned its
//                               free pages to its host, and the next process to use them would pay
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef O_DIRECT
#define O_DIRECT 0
#endif

enum { MOST_FILES = 4096, MOST_THREADS = 16, MOST_PENDING = 1024 };

static struct file {
	char *name;
	int in, out;
	long size, write;
	pthread_mutex_t lock; // guards what follows
	struct range { long at, n; } pending[MOST_PENDING];
	int oldest, count;
	long flying;
} files[MOST_FILES];
static int nfiles;
static long block, next_block, blocks, flight;
static int pace, direct;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(long n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap");
#ifdef MADV_HUGEPAGE
	madvise(p, n, MADV_HUGEPAGE);
#endif
	return p;
}

// paced starts the writing of a range and, when enough is in flight, waits for the oldest.
static void paced(struct file *f, long at, long n)
{
#ifdef SYNC_FILE_RANGE_WRITE
	if (!pace || direct)
		return;
	if (sync_file_range(f->out, at, n, SYNC_FILE_RANGE_WRITE))
		fail("sync_file_range");
	struct range old = {0, 0};
	pthread_mutex_lock(&f->lock);
	f->pending[(f->oldest + f->count++) % MOST_PENDING] = (struct range){at, n};
	f->flying += n;
	if (f->flying > flight || f->count == MOST_PENDING) {
		old = f->pending[f->oldest];
		f->oldest = (f->oldest + 1) % MOST_PENDING;
		f->count--;
		f->flying -= old.n;
	}
	pthread_mutex_unlock(&f->lock);
	if (old.n) {
		if (sync_file_range(f->out, old.at, old.n, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER))
			fail("sync_file_range");
		posix_fadvise(f->out, old.at, old.n, POSIX_FADV_DONTNEED);
	}
#else
	(void)f, (void)at, (void)n;
#endif
}

// share is how many bytes of the output belong to the first n of the input.
static long share(const struct file *f, long n)
{
	return n == f->size ? f->write : (long)((double)f->write / f->size * n) & ~4095L;
}

static void copy_block(struct file *f, long at, char *buffer)
{
	long n = f->size - at < block ? f->size - at : block;
	for (long done = 0; done < n;) {
		long r = pread(f->in, buffer + done, n - done, at + done);
		if (r <= 0)
			fail("pread");
		done += r;
	}
	long from = share(f, at), to = share(f, at + n);
	long piece = n;
	if (direct) { // whole blocks; main cuts the file
		to = (to + 4095) & ~4095L;
		piece = (n + 4095) & ~4095L;
	}
	for (long done = from; done < to;) {
		long r = pwrite(f->out, buffer, to - done < piece ? to - done : piece, done);
		if (r <= 0)
			fail("pwrite");
		done += r;
	}
	if (to > from)
		paced(f, from, to - from);
#ifdef POSIX_FADV_DONTNEED
	if (pace)
		posix_fadvise(f->in, at, n, POSIX_FADV_DONTNEED);
#endif
}

static void *work(void *unused)
{
	char *buffer = map(block);
	for (long k; (k = __sync_fetch_and_add(&next_block, 1)) < blocks;) {
		struct file *f = files;
		for (; k >= (f->size + block - 1) / block; f++)
			k -= (f->size + block - 1) / block;
		copy_block(f, k * block, buffer);
	}
	return unused;
}

static int is_shard(const struct dirent *e)
{
	const char *end = strrchr(e->d_name, '.');
	return end && !strcmp(end, ".safetensors");
}

static void open_files(const char *src, const char *dst, long write)
{
	struct dirent **e;
	char path[4096];
	long all = 0;
	if (mkdir(dst, 0755))
		fail(dst);
	nfiles = scandir(src, &e, is_shard, alphasort);
	if (nfiles <= 0 || nfiles > MOST_FILES)
		fail(src);
	for (int i = 0; i < nfiles; i++) {
		struct file *f = &files[i];
		struct stat s;
		f->name = e[i]->d_name;
		snprintf(path, sizeof path, "%s/%s", src, f->name);
		if ((f->in = open(path, O_RDONLY)) < 0 || fstat(f->in, &s))
			fail(path);
		f->size = s.st_size;
		all += f->size;
		blocks += (f->size + block - 1) / block;
	}
	for (int i = 0; i < nfiles; i++) {
		struct file *f = &files[i];
		f->write = (long)((double)write / all * f->size);
		pthread_mutex_init(&f->lock, NULL);
		snprintf(path, sizeof path, "%s/%s", dst, f->name);
		if ((f->out = open(path, O_RDWR | O_CREAT | O_EXCL | (direct ? O_DIRECT : 0), 0644)) < 0)
			fail(path);
#ifdef __linux__
		if (pace && f->write && fallocate(f->out, 0, 0, f->write))
			ftruncate(f->out, f->write);
#endif
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure_memcpy(long bytes)
{
	char *from = map(bytes), *to = map(bytes);
	memset(from, 1, bytes);
	memset(to, 2, bytes);
	static double times[10000];
	int n = 0;
	for (double end = now() + 2, start; n < 10000 && (start = now()) < end;) {
		memcpy(to, from, bytes);
		times[n++] = now() - start;
	}
	qsort(times, n, sizeof *times, ascending);
	printf("%.2f\n", 2 * bytes / times[n / 2] / 1e9);
}

int main(int n, char **arg)
{
	if (n == 3 && !strcmp(arg[1], "memcpy")) {
		measure_memcpy(atol(arg[2]));
		return 0;
	}
	if (n == 3 && !strcmp(arg[1], "touch")) {
		long bytes = atol(arg[2]);
		char *p = map(bytes);
		for (long i = 0; i < bytes; i += 4096)
			p[i] = 1;
		return 0;
	}
	if (n < 5 || (strcmp(arg[1], "naive") && strcmp(arg[1], "paced") && strcmp(arg[1], "direct"))) {
		fprintf(stderr, "usage: copy naive|paced|direct SRC DST WRITE [THREADS BLOCK FLIGHT] | copy memcpy|touch BYTES\n");
		return 2;
	}
	direct = !strcmp(arg[1], "direct");
	if (direct && !O_DIRECT) {
		fprintf(stderr, "copy: no direct writes here\n");
		return 1;
	}
	pace = direct || !strcmp(arg[1], "paced");
	int threads = pace ? 2 : 1;
	block = pace ? 4L << 20 : 16L << 20;
	flight = 64L << 20;
	if (n == 8) {
		threads = atoi(arg[5]);
		block = atol(arg[6]);
		flight = atol(arg[7]);
	}
	open_files(arg[2], arg[3], atol(arg[4]));
	if (threads < 1 || threads > MOST_THREADS || block % 4096)
		return 2;
	pthread_t t[MOST_THREADS];
	for (int i = 1; i < threads; i++)
		if (pthread_create(&t[i], NULL, work, NULL))
			fail("pthread_create");
	work(NULL);
	for (int i = 1; i < threads; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < nfiles; i++)
		if ((direct && ftruncate(files[i].out, files[i].write)) || fsync(files[i].out))
			fail("fsync");
	return 0;
}
