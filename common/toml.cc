/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <json-c/json.h>
#include <toml++/toml.h>

/* The C header is for C: what it needs of err.h is declared here. */
struct err;
struct json_object;
extern "C" {
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int toml_parse(const char *text, size_t len, struct json_object **ret,
	       struct err *e);
unsigned toml_line(const struct json_object *o);
}

static json_object *convert(const toml::node &n);

static json_object *convert_table(const toml::table &t)
{
	std::vector<std::pair<const toml::key *, const toml::node *>> items;
	json_object *o = json_object_new_object();

	/* toml++ sorts by name; the order of hosts in hosts.toml matters. */
	for (auto it = t.cbegin(); it != t.cend(); ++it)
		items.emplace_back(&it->first, &it->second);
	std::stable_sort(items.begin(), items.end(),
			 [](const auto &a, const auto &b) {
				 return a.first->source().begin <
					b.first->source().begin;
			 });
	for (const auto &i : items)
		json_object_object_add(o, std::string(i.first->str()).c_str(),
				       convert(*i.second));
	return o;
}

static json_object *convert_value(const toml::node &n)
{
	if (const auto *t = n.as_table())
		return convert_table(*t);
	if (const auto *a = n.as_array()) {
		json_object *o = json_object_new_array();

		for (const auto &v : *a)
			json_object_array_add(o, convert(v));
		return o;
	}
	if (const auto *s = n.as_string())
		return json_object_new_string_len(s->get().data(),
						  (int)s->get().size());
	if (const auto *i = n.as_integer())
		return json_object_new_int64(i->get());
	if (const auto *d = n.as_floating_point())
		return json_object_new_double(d->get());
	if (const auto *b = n.as_boolean())
		return json_object_new_boolean(b->get());

	std::ostringstream text;

	if (const auto *d = n.as_date())
		text << d->get();
	else if (const auto *tm = n.as_time())
		text << tm->get();
	else if (const auto *dt = n.as_date_time())
		text << dt->get();
	return json_object_new_string(text.str().c_str());
}

/* The line goes where json-c lets its users keep something. */
static json_object *convert(const toml::node &n)
{
	json_object *o = convert_value(n);
	uintptr_t line = n.source().begin.line;

	if (o != nullptr)
		json_object_set_userdata(o, reinterpret_cast<void *>(line),
					 nullptr);
	return o;
}

unsigned toml_line(const struct json_object *o)
{
	auto *p = json_object_get_userdata(const_cast<json_object *>(o));

	return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p));
}

int toml_parse(const char *text, size_t len, struct json_object **ret,
	       struct err *e)
{
	try {
		toml::table t = toml::parse(std::string_view(text, len));

		*ret = convert_table(t);
		return 0;
	} catch (const toml::parse_error &x) {
		return err_set(e, -EBADMSG, "line %u column %u: %s",
			       (unsigned)x.source().begin.line,
			       (unsigned)x.source().begin.column,
			       std::string(x.description()).c_str());
	} catch (const std::bad_alloc &) {
		return err_set(e, -ENOMEM, "out of memory");
	}
}
