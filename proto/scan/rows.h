/* Adds the rows of usual lines of logs, as telemetryd.core.flat does, which has all others.
 *
 * Usual are a text in the layout of Lambda's runtimes, and an object with level and id. Both are ASCII,
 * and of an invocation that is known. They are JSON that a decoder has seen. */

enum { PARTS = 8, BLOCK = 16 }; /* parts of a row; bytes to look at together */

typedef unsigned char Sixteen __attribute__((vector_size(BLOCK)));

typedef struct {
    PyObject *free, *decode, *openings; /* type of usual lines, decoder of records, openings by type */
    PyObject *type, *record, *level, *request_id, *message, *error_type; /* names of members */
    PyObject *known;         /* what a row says of an invocation, by its id: (facts, behind, middle) */
    PyObject *parts, *facts; /* lists to add to */
    PyObject *empty;
    unsigned char *escaped;
    size_t room;
} Rows;

/* Write JSON as JSON in text; return its end. NULL if it is no plain ASCII. */
static unsigned char *escape(unsigned char *out, const unsigned char *data, size_t size)
{
    *out++ = '"';
    for (size_t at = 0; at < size; ) {
        size_t end = size - at < BLOCK ? size : at + BLOCK;
        if (end - at == BLOCK) {
            const Sixteen zero = {0};
            Sixteen here;
            uint64_t words[2];
            memcpy(&here, data + at, BLOCK);
            memcpy(out, &here, BLOCK);
            here = (Sixteen)(here == zero + '"') | (Sixteen)(here == zero + '\\')
                | (Sixteen)(here < zero + ' ') | (Sixteen)(here > zero + '~');
            memcpy(words, &here, BLOCK);
            if (!(words[0] | words[1])) {
                out += BLOCK;
                at = end;
            }
        }
        for (; at < end; at++) {
            if (data[at] < ' ' || data[at] > '~')
                return NULL;
            if (data[at] == '"' || data[at] == '\\')
                *out++ = '\\';
            *out++ = data[at];
        }
    }
    *out++ = '"';
    return out;
}

static int is_ascii(const unsigned char *data, size_t size)
{
    uint64_t all = 0, word;
    for (; size >= sizeof word; data += sizeof word, size -= sizeof word) {
        memcpy(&word, data, sizeof word);
        all |= word;
    }
    while (size > 0)
        all |= data[--size];
    return !(all & 0x8080808080808080);
}

/* The value by these bytes; NULL if there is none. */
static PyObject *find(PyObject *dict, const unsigned char *start, const unsigned char *end)
{
    PyObject *key = PyBytes_FromStringAndSize((const char *)start, end - start);
    PyObject *value = key ? PyDict_GetItemWithError(dict, key) : NULL;
    Py_XDECREF(key);
    return value;
}

/* Each `add_` returns 1; 0, maybe with an exception, if it has added nothing; or -1 with one. */
static int add_row(Rows *rows, PyObject *head, PyObject *opening, PyObject *message, PyObject *middle,
                   PyObject *attributes, PyObject *facts)
{
    PyObject *empty = rows->empty;
    PyObject *parts[PARTS] = {head, opening, message, middle, attributes, empty, empty, empty};
    for (int part = 0; part < PARTS; part++)
        if (PyList_Append(rows->parts, parts[part]) < 0)
            return -1;
    return PyList_Append(rows->facts, facts) < 0 ? -1 : 1;
}

static int add_text(Rows *rows, PyObject *head, PyObject *by_level, const unsigned char *text, size_t size)
{
    const unsigned char *tabs[3], *at = text, *end = text + size;
    for (int found = 0; found < 3; ) {
        at = memchr(at, '\\', (size_t)(end - at));
        if (!at || end - at < 3)
            return 0;
        if (at[1] == 't') {
            tabs[found++] = at;
            at++;
        }
        at++;
    }
    PyObject *opening = *at != '{' ? find(by_level, text, tabs[0]) : NULL, *origin = NULL;
    if (opening)
        origin = find(rows->known, tabs[1] + 2, tabs[2]);
    else if (*at != '{' && (opening = find(by_level, tabs[1] + 2, tabs[2])))
        origin = find(rows->known, tabs[0] + 2, tabs[1]);
    end -= memcmp(end - 3, "\\n\"", 3) == 0 ? 3 : 1;
    if (!origin || end[-1] == '\\')
        return 0;
    PyObject *message = PyBytes_FromStringAndSize((const char *)text, end - text);
    int status = message ? add_row(rows, head, opening, message, PyTuple_GetItem(origin, 1), rows->empty,
                                   PyTuple_GetItem(origin, 0)) : 0;
    Py_XDECREF(message);
    return status;
}

/* A copy of a message that is a text, in which no object can be; NULL for any other. */
static PyObject *copy_text(PyObject *raw)
{
    Py_buffer view;
    if (!raw || PyObject_GetBuffer(raw, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    const char *text = view.buf;
    size_t size = (size_t)view.len;
    int is_plain = size >= 2 && text[0] == '"'
        && !(memchr("{ \\\xef", text[1], 4) && memchr(text, '{', size < 8 ? size : 8));
    PyObject *message = is_plain ? PyBytes_FromStringAndSize(text, view.len) : NULL;
    PyBuffer_Release(&view);
    return message;
}

static int add_log(Rows *rows, PyObject *head, PyObject *by_level, PyObject *log, PyObject *attributes)
{
    PyObject *level = PyObject_GetAttr(log, rows->level);
    PyObject *name = PyObject_GetAttr(log, rows->request_id);
    PyObject *opening = level ? PyDict_GetItemWithError(by_level, level) : NULL;
    PyObject *origin = opening && name ? PyDict_GetItemWithError(rows->known, name) : NULL;
    PyObject *error = origin ? PyObject_GetAttr(log, rows->error_type) : NULL;
    PyObject *raw = error == Py_None ? PyObject_GetAttr(log, rows->message) : NULL;
    PyObject *message = copy_text(raw);
    int status = message ? add_row(rows, head, opening, message, PyTuple_GetItem(origin, 2), attributes,
                                   PyTuple_GetItem(origin, 0)) : 0;
    Py_XDECREF(level);
    Py_XDECREF(name);
    Py_XDECREF(error);
    Py_XDECREF(raw);
    Py_XDECREF(message);
    return status;
}

static int add_object(Rows *rows, PyObject *head, PyObject *by_level, PyObject *record,
                      const unsigned char *data, size_t size)
{
    size_t room = 2 * size + 2 + BLOCK;
    unsigned char *end = room > rows->room ? PyMem_Realloc(rows->escaped, room) : rows->escaped;
    if (!end)
        return 0;
    rows->escaped = end;
    rows->room = room > rows->room ? room : rows->room;
    end = escape(end, data, size);
    PyObject *log = end ? PyObject_CallFunctionObjArgs(rows->decode, record, NULL) : NULL;
    PyObject *attributes = log
        ? PyBytes_FromStringAndSize((const char *)rows->escaped, end - rows->escaped) : NULL;
    int status = attributes ? add_log(rows, head, by_level, log, attributes) : 0;
    Py_XDECREF(log);
    Py_XDECREF(attributes);
    return status;
}

static int add_line(Rows *rows, PyObject *object, PyObject *head)
{
    if (!object || !head || (PyObject *)Py_TYPE(object) != rows->free)
        return 0;
    PyObject *type = PyObject_GetAttr(object, rows->type);
    PyObject *by_level = type ? PyDict_GetItemWithError(rows->openings, type) : NULL;
    PyObject *record = by_level ? PyObject_GetAttr(object, rows->record) : NULL;
    Py_buffer view;
    int status = 0;
    if (record && PyObject_GetBuffer(record, &view, PyBUF_SIMPLE) == 0) {
        const unsigned char *data = view.buf;
        size_t size = (size_t)view.len;
        if (size > 2 && data[0] == '"' && is_ascii(data, size))
            status = add_text(rows, head, by_level, data, size);
        else if (size > 2 && data[0] == '{')
            status = add_object(rows, head, by_level, record, data, size);
        PyBuffer_Release(&view);
    }
    Py_XDECREF(type);
    Py_XDECREF(record);
    return status;
}

static PyObject *add_rows(PyObject *module, PyObject *args)
{
    Rows rows = {0};
    PyObject *objects, *heads;
    Py_ssize_t at;
    int status = 1;
    if (!PyArg_ParseTuple(args, "O!O!n(OOO!(OOOOOO))O!O!O!", &PyList_Type, &objects, &PyList_Type, &heads,
            &at, &rows.free, &rows.decode, &PyDict_Type, &rows.openings, &rows.type, &rows.record,
            &rows.level, &rows.request_id, &rows.message, &rows.error_type, &PyDict_Type, &rows.known,
            &PyList_Type, &rows.parts, &PyList_Type, &rows.facts)
        || !(rows.empty = PyBytes_FromStringAndSize(NULL, 0)))
        return NULL;
    for (; at < PyList_Size(objects); at++) {
        status = add_line(&rows, PyList_GetItem(objects, at), PyList_GetItem(heads, at));
        if (status <= 0)
            break;
    }
    PyMem_Free(rows.escaped);
    Py_DECREF(rows.empty);
    if (status < 0)
        return NULL;
    PyErr_Clear(); /* Python takes the line next, and meets it again */
    return PyLong_FromSsize_t(at);
}
