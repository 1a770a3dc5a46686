/* Counts lines and finds marks in blocks of them, splits arrays into lines, and makes rows of decoded
 * lines, as telemetryd's Python does. Nothing outside the buffer is read; nothing is allocated for a
 * line but what is returned about it. The GIL stays. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000 /* the buffer protocol is part of it since 3.11 */
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
    API = 4,      /* the one telemetryd_proto.scan asks for */
    MOST = 16,    /* marks, or names */
    WINDOW = 128, /* bytes to look at before asking whether there was anything */
    REACH = 64,   /* the two bytes of a mark that are searched for are among its first REACH */
};

typedef struct {
    const unsigned char *text;
    size_t size;
    size_t first, second; /* offsets of its two rarest bytes: both together are a candidate */
} Mark;

typedef struct {
    Mark list[MOST];
    size_t count;
} Marks;

/* True if one of the marks stands at `at`. */
static int stands_at(const Marks *marks, const unsigned char *data, size_t size, size_t at)
{
    for (size_t k = 0; k < marks->count; k++) {
        const Mark *mark = &marks->list[k];
        if (data[at] == mark->text[0] && size - at >= mark->size
            && memcmp(data + at, mark->text, mark->size) == 0)
            return 1;
    }
    return 0;
}

/* Of 64 bytes, which are what: one bit for each, the first byte's the lowest. */
typedef struct {
    uint64_t quotes, escapes, commas, newlines, brackets;
} Seen;

/* For each bit, whether an odd number of bits is set from the lowest to this one. */
static inline uint64_t parity(uint64_t bits)
{
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    return bits ^ bits << 32;
}

/* The bytes behind a backslash that is not behind one itself. `*carry`: whether the first byte is
 * one, and then whether the first of the next 64 bytes is. */
static inline uint64_t find_escaped(uint64_t backslashes, uint64_t *carry)
{
    uint64_t escaped = *carry;
    *carry = 0;
    for (uint64_t left = backslashes & ~escaped; left; ) {
        uint64_t one = left & (0 - left);
        escaped |= one << 1;
        *carry = one >> 63;
        left &= ~(one | one << 1);
    }
    return escaped;
}

/* What bytes.strip() takes off. */
static inline int is_space(unsigned char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Move `*start` behind the white space there; return the end without white space before it. */
static inline size_t strip(const unsigned char *data, size_t *start, size_t end)
{
    while (*start < end && is_space(data[*start]))
        ++*start;
    while (end > *start && is_space(data[end - 1]))
        end--;
    return end;
}

/* Write a record as a line; return its size. Newlines in it become spaces. */
static inline size_t write_line(unsigned char *out, const unsigned char *record, size_t size,
                                int has_newlines)
{
    unsigned char *end = out + size, *at = memcpy(out, record, size);
    while (has_newlines && (at = memchr(at, '\n', (size_t)(end - at)))) {
        *at = ' ';
        if (at > out && at[-1] == '\r')
            at[-1] = ' ';
    }
    *end = '\n';
    return size + 1;
}

#define NAME(x) x##_16
#define TARGET
#define WIDTH 16
#include "kernels.h"

static size_t (*count)(const unsigned char *, size_t, int *) = count_16;
static size_t (*next)(const Marks *, const unsigned char *, size_t, size_t) = next_16;
static Py_ssize_t (*split)(const unsigned char *, size_t, size_t, unsigned char *, size_t *) = split_16;

#if defined(__x86_64__) && !defined(NARROW) /* -DNARROW leaves AVX2 out */
#include <cpuid.h>
#define NAME(x) x##_32
#define TARGET __attribute__((target("avx2")))
#define WIDTH 32
#include "kernels.h"

/* True, and the passes are AVX2's, if processor and kernel have it. By hand, since the runtime that
 * zig links answers no to each __builtin_cpu_supports. */
static int take_avx2(void)
{
    unsigned a, b, c, d, saved;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    if ((saved & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2))
        return 0;
    count = count_32;
    next = next_32;
    split = split_32;
    return 1;
}
#else
#define take_avx2() 0
#endif

static PyObject *count_lines(PyObject *module, PyObject *data)
{
    Py_buffer view;
    int odd;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t lines = count(view.buf, (size_t)view.len, &odd);
    PyBuffer_Release(&view);
    return PyLong_FromSize_t(odd ? 0 : lines);
}

/* How rare a byte is in telemetry lines: it decides only how fast a search is. */
static size_t rarity(unsigned char byte)
{
    static const char common[] = "0123456789 \"',-:e.tasrnoidlcuhz\\pmfbgywkvjxq([)]_";
    const char *found = byte ? strchr(common, byte) : common;
    return found ? (size_t)(found - common) : sizeof common;
}

static Mark with_rarest_bytes(const unsigned char *text, size_t size)
{
    Mark mark = {.text = text, .size = size};
    size_t reach = size < REACH ? size : REACH;
    for (size_t at = 1; at < reach; at++)
        if (rarity(text[at]) > rarity(text[mark.first]))
            mark.first = at;
    mark.second = mark.first == 0 ? reach - 1 : 0;
    for (size_t at = 0; at < reach; at++) { /* neighbours, and the same byte again, tell less */
        int is_far = at + 1 < mark.first || at > mark.first + 1;
        if (is_far && text[at] != text[mark.first] && rarity(text[at]) >= rarity(text[mark.second]))
            mark.second = at;
    }
    return mark;
}

/* Read a tuple of texts of two bytes or more; -1, with an exception, if it is anything else. */
static int read_marks(PyObject *texts, Marks *marks)
{
    Py_ssize_t given = PyTuple_Check(texts) ? PyTuple_Size(texts) : MOST + 1;
    for (Py_ssize_t i = 0; i < given && given <= MOST; i++) {
        char *text;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(texts, i), &text, &size) < 0)
            return -1;
        if (size < 2)
            given = MOST + 1;
        else
            marks->list[i] = with_rarest_bytes((const unsigned char *)text, (size_t)size);
    }
    if (given > MOST) {
        PyErr_SetString(PyExc_ValueError, "expected a tuple of few texts of two bytes or more");
        return -1;
    }
    marks->count = (size_t)given;
    return 0;
}

/* Where the blanks begin that end before `at`. */
static size_t before_blanks(const unsigned char *data, size_t at)
{
    while (at > 0 && (data[at - 1] == ' ' || data[at - 1] == '\t' || data[at - 1] == '\r'))
        at--;
    return at;
}

/* True if what stands at `at` is the value of a member "type". */
static int is_type(const unsigned char *data, size_t at)
{
    at = before_blanks(data, at);
    at = at > 0 && data[at - 1] == ':' ? before_blanks(data, at - 1) : 0;
    return at >= 6 && memcmp(data + at - 6, "\"type\"", 6) == 0;
}

/* True if the line, its newline the last byte, opens and closes as an object does. */
static int may_be_object(const unsigned char *line, size_t size)
{
    return size >= 2 && line[0] != '\0' && strchr("{ \t\r\v\f", line[0])
        && (line[size - 2] <= ' ' || line[size - 2] == '}');
}

/* What is found: spans; or, of events, the lines and where they begin. */
typedef struct {
    PyObject *list, *starts;
    Py_ssize_t open; /* lines with a name that do not close as an object does */
} Found;

/* Append `item`, and take it; -1, with an exception, if that fails or there is none. */
static int append(PyObject *list, PyObject *item)
{
    int status = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return status;
}

static int append_event(Found *found, const unsigned char *data, size_t start, size_t end)
{
    size_t begin = start, close = strip(data, &begin, end);
    if (data[close - 1] != '}') {
        found->open++;
        return 0;
    }
    const char *line = (const char *)data + start;
    if (append(found->list, PyBytes_FromStringAndSize(line, (Py_ssize_t)(end - start))) < 0)
        return -1;
    return append(found->starts, PyLong_FromSize_t(start));
}

static int collect(const Marks *marks, const Marks *names, const unsigned char *data, size_t size,
                   Found *found)
{
    size_t at = 0, done = 0; /* nothing before `done` is looked at again */
    while ((at = next(marks, data, size, at)) < size) {
        if (names && !(stands_at(names, data, size, at) && is_type(data, at))) {
            at++;
            continue;
        }
        const unsigned char *newline = memchr(data + at, '\n', size - at);
        size_t start = at, end = newline ? (size_t)(newline - data) + 1 : size;
        while (start > done && data[start - 1] != '\n')
            start--;
        int status = 0;
        if (names)
            status = append_event(found, data, start, end);
        else if (may_be_object(data + start, end - start))
            status = append(found->list, Py_BuildValue("(nn)", (Py_ssize_t)start, (Py_ssize_t)end));
        if (status < 0)
            return -1;
        at = done = end;
    }
    return 0;
}

/* `find_lines` takes data and marks; `find_events` takes names, too. */
static PyObject *find_lines(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Marks marks, names;
    Py_buffer view;
    int is_of_events = nargs == 3;
    if (nargs != 2 && !is_of_events)
        return PyErr_Format(PyExc_TypeError, "expected data, marks and, of events, names");
    if (read_marks(args[1], &marks) < 0 || (is_of_events && read_marks(args[2], &names) < 0)
        || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Found found = {.list = PyList_New(0), .starts = PyList_New(0)};
    PyObject *answer = NULL;
    if (found.list && found.starts
        && !collect(&marks, is_of_events ? &names : NULL, view.buf, (size_t)view.len, &found))
        answer = is_of_events ? Py_BuildValue("(OOn)", found.list, found.starts, found.open)
            : Py_NewRef(found.list);
    Py_XDECREF(found.list);
    Py_XDECREF(found.starts);
    PyBuffer_Release(&view);
    return answer;
}

static PyObject *split_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer view;
    size_t lines = 0;
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "split_array takes a body and an offset");
    Py_ssize_t at = PyLong_AsSsize_t(args[1]);
    if ((at == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (at < 0 || at > view.len)
        at = view.len;
    PyObject *found, *whole = PyBytes_FromStringAndSize(NULL, view.len - at);
    Py_ssize_t written = -2;
    if (whole) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(whole);
        written = split(view.buf, (size_t)view.len, (size_t)at, out, &lines);
    }
    if (written == -1)
        found = Py_NewRef(Py_None);
    else if (written == view.len - at) 
        found = Py_BuildValue("(On)", whole, (Py_ssize_t)lines);
    else if (whole)
        found = Py_BuildValue("(y#n)", PyBytes_AsString(whole), written, (Py_ssize_t)lines);
    else
        found = NULL;
    Py_XDECREF(whole);
    PyBuffer_Release(&view);
    return found;
}

#include "rows.h"

static int execute(PyObject *module)
{
    int status = PyModule_AddStringConstant(module, "KIND", take_avx2() ? "avx2" : "baseline");
    return status < 0 ? status : PyModule_AddIntConstant(module, "API", API);
}

static PyMethodDef methods[] = {
    {"count_lines", count_lines, METH_O, NULL},
    {"find_lines", (PyCFunction)(void (*)(void))find_lines, METH_FASTCALL, NULL},
    {"find_events", (PyCFunction)(void (*)(void))find_lines, METH_FASTCALL, NULL},
    {"split_array", (PyCFunction)(void (*)(void))split_array, METH_FASTCALL, NULL},
    {"add_rows", add_rows, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "telemetryd_scan", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_telemetryd_scan(void)
{
    return PyModuleDef_Init(&definition);
}
