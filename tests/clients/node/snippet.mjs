// The snippet of the reference document; base URL and key come from outside.
import OpenAI from 'openai';

const openai = new OpenAI({ 
      baseURL: process.env.BASE_URL, 
      apiKey: process.env.API_KEY, 
}); 
const response = await openai.chat.completions.create({
  model: 'gpt-4',
  messages: [{ role: 'user', content: 'Hello!' }],
});
console.log(response.choices[0].message.content);
